"""Nets of the forks for faces and metric learning, rebuilt small, with the layers of the published prototxts."""

import numpy as np
import pytest

from minicaffe import Net
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P
from minicaffe.proto import TEST, TRAIN
from minicaffe.testing import assert_close

CLASSES = 5
XAVIER = dict(weight_filler=dict(type="xavier"))


def body(features=6):
    """A convolution, PReLU, a residual, and an inner product, as in SphereFace's nets, small."""
    n = NetSpec()
    n.data, n.label = L.Input(shape=[dict(dim=[6, 3, 8, 6]), dict(dim=[6])], ntop=2)
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3, stride=2, pad=1, **XAVIER)
    n.relu1 = L.PReLU(n.conv1, in_place=True)
    n.conv2 = L.Convolution(n.relu1, num_output=4, kernel_size=3, pad=1, weight_filler=dict(type="gaussian", std=0.01))
    n.relu2 = L.PReLU(n.conv2, in_place=True)
    n.res = L.Eltwise(n.relu1, n.relu2, operation=P.Eltwise.SUM)
    n.fc5 = L.InnerProduct(n.res, num_output=features, **XAVIER)
    return n


def sphereface():
    """wy1iu/sphereface, sphereface_model.prototxt."""
    n = body()
    n.fc6, n["lambda"] = L.MarginInnerProduct(
        n.fc5, n.label, ntop=2, num_output=CLASSES, type=P.MarginInnerProduct.QUADRUPLE, base=1000, gamma=0.12, power=1,
        lambda_min=5, iteration=0, **XAVIER,
    )  # fmt: skip
    n.softmax_loss = L.SoftmaxWithLoss(n.fc6, n.label)
    return n


def am_softmax(margin=lambda x, label: L.LabelSpecificAdd(x, label, bias=-0.35)):
    """happynear/AMSoftmax, face_train_test.prototxt."""
    n = body()
    n.norm1 = L.Normalize(n.fc5)
    n.fc6 = L.InnerProduct(n.norm1, num_output=CLASSES, normalize=True, bias_term=False, **XAVIER)
    n.fc6_margin = margin(n.fc6, n.label)
    n.fc6_margin_scale = L.Scale(n.fc6_margin, param=dict(lr_mult=0, decay_mult=0), filler=dict(value=30))
    n.softmax_loss = L.SoftmaxWithLoss(n.fc6_margin_scale, n.label, loss_weight=1)
    return n


def am_softmax_of_norms():
    """happynear/AMSoftmax, face_train_test_wo_fn.prototxt: the scale is the length of the features."""
    n = body()
    n.norm1, n.feature_norm = L.Normalize(n.fc5, ntop=2, normalize_param=dict(bp_norm=True))
    n.fc6 = L.InnerProduct(n.norm1, num_output=CLASSES, normalize=True, bias_term=False, **XAVIER)
    n.fc6_margin, n.margin = L.LabelSpecificAdd(
        n.fc6, n.label, ntop=2, bias_base=0, bias_gamma=-0.01, bias_power=1, bias_min=-0.35, bias_max=0
    )
    n.fc6_margin_scale = L.ChannelScale(n.fc6_margin, n.feature_norm)
    n.softmax_loss = L.SoftmaxWithLoss(n.fc6_margin_scale, n.label)
    return n


def combined_margin():
    """gehaocool/CombinedMargin-caffe, example.prototxt."""
    return am_softmax(lambda x, label: L.CombinedMargin(x, label, m1=1, m2=0, m3=0.35))


def arcface():
    """xialuxi/arcface-caffe, cosin_add_m.prototxt."""
    n = am_softmax(lambda x, label: L.CosinAddm(x, label, m=0.5))
    n.focal_loss = L.FocalLoss(n.fc6_margin_scale, n.label, gamma=2, alpha=0.25)
    return n


def large_margin():
    """wy1iu/LargeMargin_Softmax_Loss, mnist_train_test.prototxt, in TRAIN."""
    n = body()
    n.ip2, n["lambda"] = L.LargeMarginInnerProduct(
        n.fc5, n.label, ntop=2, num_output=CLASSES, type=P.MarginInnerProduct.QUADRUPLE, base=1000, gamma=0.000025,
        power=35,
        weight_filler=dict(type="msra"),
    )  # fmt: skip
    n.loss = L.SoftmaxWithLoss(n.ip2, n.label)
    return n


def normface(loss):
    """happynear/NormFace, normalized_Euclidean_triplet.prototxt and normalized_Euclidean_contrastive.prototxt."""
    n = body()
    n.norm1 = L.Normalize(n.fc5)
    centres = dict(shape=dict(dim=[CLASSES, 6]), blob_filler=dict(type="gaussian_unitball"))
    n.id_weight = L.Parameter(param=dict(lr_mult=1, decay_mult=0), **centres)
    n.id_weight_normalize = L.Normalize(n.id_weight)
    n.distance = L.InnerDistance(n.norm1, n.id_weight_normalize, bias_term=False, distance_type="L2")
    n.loss, n.mean_distance = loss(n.distance, n.label, ntop=2, loss_weight=[1, 1])
    n.accuracy = L.Accuracy(n.distance, n.label, min_is_better=True)
    return n


def triplet():
    return normface(lambda *bottoms, **more: L.GeneralTripletLoss(*bottoms, margin=0.8, hardest_only=True, **more))


def contrastive():
    return normface(lambda *bottoms, **more: L.GeneralContrastiveLoss(*bottoms, negative_margin=1, **more))


def lifted():
    """rksltnl/Deep-Metric-Learning-CVPR16: the embedding of a batch of pairs."""
    n = body()
    n.loss = L.LiftedStructSimilaritySoftmaxLoss(n.fc5, n.label, margin=1)
    return n


@pytest.fixture
def built(tmp_path):
    """A function that builds a net of a NetSpec and fills its inputs."""

    def build(spec, phase=TRAIN):
        path = tmp_path / "net.prototxt"
        path.write_text(str(spec.to_proto()))
        net, rng = Net(str(path), phase), np.random.default_rng(0)
        net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape)
        if "label" in net.blobs:
            net.blobs["label"].data[...] = [0, 0, 1, 1, 4, 4]
        return net

    return build


NETS = [
    sphereface, am_softmax, am_softmax_of_norms, combined_margin, arcface, large_margin, triplet, contrastive, lifted,
]  # fmt: skip


@pytest.mark.parametrize("spec", NETS)
def test_forward_and_backward_are_finite_and_the_loss_falls(spec, built, engine):
    """Ten steps of plain descent on one batch lower the loss."""
    net = built(spec())
    losses = []
    for _ in range(10):
        net.clear_param_diffs()
        net.forward()
        losses.append(net.loss())
        net.backward()
        for blob in net.learnable_params:
            assert np.isfinite(blob.diff).all()
            blob.data[...] -= 0.01 * blob.diff
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert np.abs(net.params["conv1"][0].diff).max() > 0


def test_mirrored_faces_share_the_net(built, engine):
    """happynear/NormFace, example_of_mirror_face.prototxt: the features of an image and of its mirror image."""
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 8, 6]))
    n.flip = L.Flip(n.data, flip_width=True, flip_height=False)
    n.both = L.Concat(n.data, n.flip, axis=0)
    n.conv = L.Convolution(n.both, num_output=4, kernel_size=3, **XAVIER)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.AVE, global_pooling=True)
    n.one, n.other = L.Slice(n.pool, ntop=2, axis=0)
    n.feature = L.Eltwise(n.one, n.other, operation=P.Eltwise.SUM)
    n.norm1 = L.Normalize(n.feature)
    net = built(n, TEST)
    first = net.forward()["norm1"].copy()
    assert_close(np.square(first).sum(1), np.ones((2, 1, 1)))
    net.blobs["data"].data[...] = net.blobs["data"].data[..., ::-1].copy()
    assert_close(net.forward()["norm1"], first)
