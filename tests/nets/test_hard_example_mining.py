"""R-FCN's head with online hard example mining: losses of each region choose the regions that the losses read."""

import numpy as np
import pytest

import minicaffe as caffe
from helpers.nets import layer_text, net_from_text

REGIONS, CLASSES, MOST, FIXED = 12, 3, 4, 5.0

NOT_DOWN = "propagate_down: false "
BODY = (
    """
layer { name: "data" type: "Input" top: "image" top: "rois" top: "labels" top: "bbox_targets" top: "bbox_inside_weights"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } shape { dim: 12 dim: 5 } shape { dim: 12 dim: 1 dim: 1 dim: 1 }
                shape { dim: 12 dim: 8 dim: 1 dim: 1 } shape { dim: 12 dim: 8 dim: 1 dim: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "image" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "rfcn_cls" type: "Convolution" bottom: "conv" top: "rfcn_cls"
  convolution_param { num_output: 12 kernel_size: 1 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "rfcn_bbox" type: "Convolution" bottom: "conv" top: "rfcn_bbox"
  convolution_param { num_output: 32 kernel_size: 1 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "psroi_cls" type: "PSROIPooling" bottom: "rfcn_cls" bottom: "rois" top: "psroi_cls"
  psroi_pooling_param { spatial_scale: 0.5 output_dim: 3 group_size: 2 } }
layer { name: "psroi_bbox" type: "PSROIPooling" bottom: "rfcn_bbox" bottom: "rois" top: "psroi_bbox"
  psroi_pooling_param { spatial_scale: 0.5 output_dim: 8 group_size: 2 } }
"""
    + layer_text("vote_cls", "Pooling", "psroi_cls", "cls_score", "pooling_param { pool: AVE global_pooling: true }")
    + layer_text("vote_bbox", "Pooling", "psroi_bbox", "bbox_pred", "pooling_param { pool: AVE global_pooling: true }")
)
#: Each region's loss, and the labels and weights of the regions with the largest.
MINING = (
    layer_text(
        "per_roi_loss_cls", "SoftmaxWithLossOHEM", "cls_score labels", "temp_loss_cls temp_prob_cls per_roi_loss_cls",
        "loss_weight: 0 " * 3 + NOT_DOWN * 2,
    )
    + layer_text(
        "per_roi_loss_bbox", "BBOX_LOSS", "bbox_pred bbox_targets bbox_inside_weights",
        "temp_loss_bbox per_roi_loss_bbox", "loss_weight: 0 " * 2 + NOT_DOWN * 3,
    )
    + layer_text("per_roi_loss", "Eltwise", "per_roi_loss_cls per_roi_loss_bbox", "per_roi_loss", NOT_DOWN * 2)
    + layer_text("silence", "Silence", "temp_loss_cls temp_prob_cls temp_loss_bbox", "")
    + layer_text(
        "annotator", "BoxAnnotatorOHEM", "rois per_roi_loss labels bbox_inside_weights",
        "labels_ohem bbox_loss_weights_ohem",
        NOT_DOWN * 4 + f"box_annotator_ohem_param {{ roi_per_img: {MOST} ignore_label: -1 }}",
    )
)  # fmt: skip
GIVEN = """
layer { name: "given" type: "Input" top: "labels_ohem" top: "bbox_loss_weights_ohem"
  input_param { shape { dim: 12 dim: 1 dim: 1 dim: 1 } shape { dim: 12 dim: 8 dim: 1 dim: 1 } } }
layer { name: "unused" type: "Silence" bottom: "labels" bottom: "bbox_inside_weights" }
"""
LOSSES = layer_text(
    "loss", "SoftmaxWithLoss", "cls_score labels_ohem", "loss_cls",
    "loss_weight: 1 loss_param { ignore_label: -1 } propagate_down: true propagate_down: false",
) + layer_text(
    "loss_bbox", "BBOX_LOSS", "bbox_pred bbox_targets bbox_loss_weights_ohem", "loss_bbox",
    f"loss_weight: 1 loss_param {{ normalization: PRE_FIXED pre_fixed_normalizer: {FIXED} }} propagate_down: true "
    + NOT_DOWN * 2,
)  # fmt: skip
MINED = ("labels_ohem", "bbox_loss_weights_ohem")
#: R-FCN's first fork has the losses of regions in SmoothL1Loss itself.
BBOX_LOSSES = ("SmoothL1LossOHEM", "SmoothL1Loss")


def inputs():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 8, (REGIONS, 2))
    labels = rng.integers(0, CLASSES, REGIONS)
    weights = np.zeros((REGIONS, 8))
    weights[labels > 0, 4:] = 1
    return {
        "image": rng.standard_normal((2, 3, 8, 8)),
        "rois": np.concatenate([np.arange(REGIONS)[:, None] % 2, corner, corner + rng.uniform(2, 8, (REGIONS, 2))], 1),
        "labels": labels.reshape(REGIONS, 1, 1, 1),
        "bbox_targets": rng.standard_normal((REGIONS, 8, 1, 1)),
        "bbox_inside_weights": weights.reshape(REGIONS, 8, 1, 1),
    }


def make_net(between, bbox_loss, dtype=np.float32):
    caffe.set_random_seed(5)
    net = net_from_text((BODY + between + LOSSES).replace("BBOX_LOSS", bbox_loss), caffe.TRAIN, dtype=dtype)
    for name, values in inputs().items():
        net.blobs[name].data[...] = values
    return net


def gradients(net):
    net.clear_param_diffs()
    net.forward()
    net.backward()
    return {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}


@pytest.mark.parametrize("bbox_loss", BBOX_LOSSES)
def test_the_losses_read_the_regions_with_the_largest_losses(engine, bbox_loss):
    net = make_net(MINING, bbox_loss)
    net.forward()
    image, labels = net.blobs["rois"].data[:, 0], net.blobs["labels"].data.ravel()
    scores = net.blobs["cls_score"].data.reshape(REGIONS, CLASSES)
    each = np.log(np.exp(scores).sum(1)) - scores[range(REGIONS), labels.astype(int)]
    d = net.blobs["bbox_inside_weights"].data * (net.blobs["bbox_pred"].data - net.blobs["bbox_targets"].data)
    smooth = np.where(np.abs(d) < 1, d * d / 2, np.abs(d) - 0.5).reshape(REGIONS, -1).sum(1)
    np.testing.assert_allclose(net.blobs["per_roi_loss"].data.ravel(), each + smooth, rtol=1e-4)
    kept = np.zeros(REGIONS, bool)
    for n in range(2):
        of_image = np.flatnonzero(image == n)
        kept[of_image[np.argsort(-(each + smooth)[of_image])[:MOST]]] = True
    assert kept.sum() == 2 * MOST
    np.testing.assert_array_equal(net.blobs["labels_ohem"].data.ravel(), np.where(kept, labels, -1))
    np.testing.assert_allclose(net.blobs["loss_cls"].data, each[kept].sum() / (2 * MOST), rtol=1e-4)
    np.testing.assert_allclose(net.blobs["loss_bbox"].data, smooth[kept].sum() / FIXED, rtol=1e-4)


@pytest.mark.parametrize("bbox_loss", BBOX_LOSSES)
def test_mined_labels_train_like_given_ones(engine, bbox_loss):
    mined, given = make_net(MINING, bbox_loss), make_net(GIVEN, bbox_loss)
    for name, blobs in mined.params.items():
        for blob, other in zip(given.params[name], blobs):
            blob.data[...] = other.data
    found = gradients(mined)
    for name in MINED:
        given.blobs[name].data[...] = mined.blobs[name].data
    for name, diffs in gradients(given).items():
        for diff, other in zip(diffs, found[name]):
            assert np.abs(diff).max() > 0
            np.testing.assert_allclose(other, diff, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bbox_loss", BBOX_LOSSES)
def test_the_gradient_is_the_derivative(bbox_loss):
    """In float64, of a few weights of each layer; a small step does not change which regions are kept."""
    net = make_net(MINING, bbox_loss, np.float64)
    found = gradients(net)
    for name, (weights, _) in ((name, net.params[name]) for name in found):
        for at in np.random.default_rng(0).permutation(weights.count)[:10]:
            losses = []
            for step in (1e-6, -2e-6):
                weights.data.flat[at] += step
                losses.append(sum(net.forward()[each].item() for each in ("loss_cls", "loss_bbox")))
            weights.data.flat[at] += 1e-6
            np.testing.assert_allclose(found[name][0].flat[at], (losses[0] - losses[1]) / 2e-6, rtol=1e-5, atol=1e-7)


def test_it_trains(engine):
    net, losses = make_net(MINING, "SmoothL1LossOHEM"), []
    for _ in range(60):
        for name, diffs in gradients(net).items():
            for blob, diff in zip(net.params[name], diffs):
                blob.data[...] -= 0.05 * diff
        losses.append(sum(net.blobs[each].data.item() for each in ("loss_cls", "loss_bbox")))
    assert losses[-1] < 0.5 * losses[0]
