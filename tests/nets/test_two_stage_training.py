"""Training of a two-stage detector whose targets and loss weights are computed by Python layers from learned scores."""

import sys
import textwrap

import numpy as np
import pytest

import minicaffe as caffe
from helpers.nets import net_from_text
from minicaffe.errors import LayerError

MODULE = """
import caffe
import numpy as np


class Targets(caffe.Layer):
    # scores, truth -> labels, targets, inside weights, outside weights, as py-faster-rcnn's AnchorTargetLayer
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(bottom[0].shape[0])
        for blob in top[1:]:
            blob.reshape(bottom[0].shape[0], 4)

    def forward(self, bottom, top):
        best = bottom[0].data.reshape(len(bottom[0].data), -1).sum(1) > 0
        top[0].data[...] = best
        for k, blob in enumerate(top[1:]):
            blob.data[...] = bottom[1].data * (k + 1) * (1 + best[:, None])

    def backward(self, top, propagate_down, bottom):
        pass


class Rois(caffe.Layer):
    def setup(self, bottom, top):
        top[0].reshape(len(bottom[0].data), 5)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        n = len(bottom[0].data)
        top[0].data[...] = [[i, 0, 0, 3, 2 + i % 2] for i in range(n)]

    def backward(self, top, propagate_down, bottom):
        pass
"""

HEAD = """
layer { name: "data" type: "Input" top: "image" top: "truth"
        input_param { shape { dim: 3 dim: 2 dim: 4 dim: 4 } shape { dim: 3 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "image" top: "conv"
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "score" type: "InnerProduct" bottom: "conv" top: "score"
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "box" type: "InnerProduct" bottom: "conv" top: "box"
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.5 } } }
"""
LEARNED = """
layer { name: "targets" type: "Python" bottom: "score" bottom: "truth" top: "labels" top: "targets" top: "inside"
        top: "outside" python_param { module: "two_stages_of_a_test" layer: "Targets" } }
layer { name: "proposal" type: "Python" bottom: "score" bottom: "box" top: "rois"
        python_param { module: "two_stages_of_a_test" layer: "Rois" } }
"""
GIVEN = """
layer { name: "given" type: "Input" top: "labels" top: "targets" top: "inside" top: "outside" top: "rois"
        input_param { shape { dim: 3 } shape { dim: 3 dim: 4 } shape { dim: 3 dim: 4 } shape { dim: 3 dim: 4 }
                      shape { dim: 3 dim: 5 } } }
"""
LOSSES = """
layer { name: "loss_score" type: "SoftmaxWithLoss" bottom: "score" bottom: "labels" top: "loss_score"
        PROPAGATE loss_weight: 1 }
layer { name: "loss_box" type: "SmoothL1Loss" bottom: "box" bottom: "targets" bottom: "inside" bottom: "outside"
        top: "loss_box" loss_weight: 1 smooth_l1_loss_param { sigma: 3 } }
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
        roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 } }
layer { name: "embed" type: "InnerProduct" bottom: "pool" top: "embed"
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "pairs" type: "ContrastiveLoss" bottom: "embed" bottom: "box" bottom: "labels" top: "pairs" }
"""
TARGETS = ("labels", "targets", "inside", "outside", "rois")


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "two_stages_of_a_test.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("two_stages_of_a_test", None)


def make_net(source, propagate="propagate_down: true propagate_down: false"):
    text = HEAD + source + LOSSES.replace("PROPAGATE", propagate)
    caffe.set_random_seed(3)
    net = net_from_text(text, caffe.TRAIN)
    rng = np.random.default_rng(0)
    net.blobs["image"].data[...] = rng.standard_normal((3, 2, 4, 4))
    net.blobs["truth"].data[...] = rng.standard_normal((3, 4))
    return net


def gradients(net):
    net.clear_param_diffs()
    net.forward()
    net.backward()
    return {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}


def test_learned_targets_train_like_given_ones(module, engine):
    """No gradient reaches weights, regions and the likeness of pairs; everything else is as if they were inputs."""
    learned, given = make_net(LEARNED), make_net(GIVEN)
    for name, blobs in learned.params.items():
        for blob, other in zip(given.params[name], blobs):
            blob.data[...] = other.data
    for _ in range(2):
        learned.forward()
        for name in TARGETS:
            given.blobs[name].data[...] = learned.blobs[name].data
        expected = gradients(given)
        for name, diffs in gradients(learned).items():
            for diff, other in zip(diffs, expected[name]):
                assert np.abs(diff).max() > 0
                np.testing.assert_allclose(diff, other, rtol=1e-4, atol=1e-6)
        learned.blobs["image"].data[...] *= -1
        given.blobs["image"].data[...] *= -1


def test_a_label_that_depends_on_parameters_is_an_error_without_propagate_down(module, engine):
    net = make_net(LEARNED, propagate="")
    net.forward()
    with pytest.raises(
        LayerError,
        match=r"^SoftmaxWithLoss layer 'loss_score': there is no gradient with respect to the label \(bottom 1\); if "
        r"the label comes from layers that learn, add propagate_down: true propagate_down: false$",
    ):
        net.backward()
