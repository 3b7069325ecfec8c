"""SSD (Liu et al., "SSD: single shot multibox detector", 2015): SSD-300, and a small one for drawn shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minicaffe.models.zoo.blocks import WEIGHTS_AND_BIAS, XAVIER, conv_bn, conv_relu, inputs, max_pool
from minicaffe.models.zoo.vgg import STAGES
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P
from minicaffe.proto import TEST, TRAIN, caffe_pb2


class Map(NamedTuple):
    """A feature map with predictions, and its prior boxes."""

    blob: str
    smallest: float | tuple[float, ...]  #: sides of small squares, in pixels
    largest: float | tuple[float, ...]  #: for each of them: a larger square has side sqrt(smallest * largest)
    ratios: tuple[float, ...]  #: aspect ratios besides 1; the inverses are added
    step: float  #: pixels of the image from place to place


_SSD300 = (
    Map("conv4_3_norm", 30, 60, (2,), 8),
    Map("fc7", 60, 111, (2, 3), 16),
    Map("conv6_2", 111, 162, (2, 3), 32),
    Map("conv7_2", 162, 213, (2, 3), 64),
    Map("conv8_2", 213, 264, (2,), 100),
    Map("conv9_2", 264, 315, (2,), 300),
)
_SHAPES = (
    Map("conv5", (14, 20), (20, 28), (2,), 8),
    Map("conv6", (28, 38), (38, 50), (2,), 16),
    Map("conv7", 50, 66, (2,), 32),
)


def _base(n: NetSpec):
    """VGG-16 with fc6 and fc7 as convolutions, fc6 dilated."""
    x = n.data
    for stage, (width, count) in enumerate(STAGES, start=1):
        for i in range(1, count + 1):
            x = conv_relu(n, f"conv{stage}_{i}", x, width, 3, pad=1)
        x = max_pool(n, f"pool{stage}", x) if stage < 5 else max_pool(n, "pool5", x, 3, 1, pad=1)
    n.conv4_3_norm = L.Normalize(
        n.relu_conv4_3, across_spatial=False, channel_shared=False, scale_filler=dict(value=20)
    )
    x = conv_relu(n, "fc6", x, 1024, 3, pad=6, dilation=6)
    return conv_relu(n, "fc7", x, 1024, 1)


def _extra_maps(n: NetSpec, x) -> None:
    """Smaller and smaller maps: a 1x1, then a 3x3 with stride 2 or without padding."""
    for i, (width, more) in enumerate(
        ((256, dict(pad=1, stride=2)), (128, dict(pad=1, stride=2)), (128, {}), (128, {})), 6
    ):
        x = conv_relu(n, f"conv{i}_1", x, width, 1)
        x = conv_relu(n, f"conv{i}_2", x, 2 * width, 3, **more)


def _predict(n: NetSpec, kind: str, blob: str, source, outputs: int):
    """A 3x3 convolution, its output channels moved last and flattened: (N, H * W * outputs)."""
    stem = f"{blob}_mbox_{kind}"
    n[stem] = L.Convolution(source, num_output=outputs, kernel_size=3, pad=1, param=WEIGHTS_AND_BIAS, **XAVIER)
    n[f"{stem}_perm"] = L.Permute(n[stem], order=[0, 2, 3, 1])
    n[f"{stem}_flat"] = L.Flatten(n[f"{stem}_perm"], axis=1)
    return n[f"{stem}_flat"]


def _priors(n: NetSpec, spec: Map, source):
    n[f"{spec.blob}_mbox_priorbox"] = L.PriorBox(
        source, n.data, min_size=spec.smallest, max_size=spec.largest, aspect_ratio=list(spec.ratios), flip=True,
        clip=False, variance=[0.1, 0.1, 0.2, 0.2], step=spec.step, offset=0.5,
    )  # fmt: skip
    return n[f"{spec.blob}_mbox_priorbox"]


def multibox_head(n: NetSpec, maps: Sequence[Map], classes: int) -> None:
    """Add predictions on each map: mbox_loc (N, P 4), mbox_conf (N, P classes), mbox_priorbox (1, 2, P 4)."""
    locations, confidences, priors = [], [], []
    for spec in maps:
        boxes = np.size(spec.smallest) * (2 + 2 * len(spec.ratios))
        source = n.tops.get(f"relu_{spec.blob}") or n[spec.blob]
        locations.append(_predict(n, "loc", spec.blob, source, 4 * boxes))
        confidences.append(_predict(n, "conf", spec.blob, source, classes * boxes))
        priors.append(_priors(n, spec, source))
    n.mbox_loc, n.mbox_conf = L.Concat(*locations, axis=1), L.Concat(*confidences, axis=1)
    n.mbox_priorbox = L.Concat(*priors, axis=2)


def multibox_loss(n: NetSpec, classes: int, **more) -> None:
    """Add mbox_loss over blob `label`, with the numbers of the paper."""
    n.mbox_loss = L.MultiBoxLoss(
        n.mbox_loc, n.mbox_conf, n.mbox_priorbox, n.label,
        propagate_down=[True, True, False, False], loss_param=dict(normalization=P.Loss.VALID), num_classes=classes,
        overlap_threshold=0.5, neg_pos_ratio=3, neg_overlap=0.5, code_type=P.PriorBox.CENTER_SIZE,
        mining_type=P.MultiBoxLoss.MAX_NEGATIVE, **more,
    )  # fmt: skip


def detections(n: NetSpec, classes: int, **more) -> None:
    """Add detection_out (1, 1, M, 7): image, label, score, xmin, ymin, xmax, ymax of each box kept."""
    n.mbox_conf_reshape = L.Reshape(n.mbox_conf, shape=dict(dim=[0, -1, classes]), **more)
    n.mbox_conf_softmax = L.Softmax(n.mbox_conf_reshape, axis=2, **more)
    n.mbox_conf_flatten = L.Flatten(n.mbox_conf_softmax, axis=1, **more)
    n.detection_out = L.DetectionOutput(
        n.mbox_loc, n.mbox_conf_flatten, n.mbox_priorbox, num_classes=classes, share_location=True,
        background_label_id=0, nms_param=dict(nms_threshold=0.45, top_k=400), code_type=P.PriorBox.CENTER_SIZE,
        keep_top_k=200, confidence_threshold=0.01, **more,
    )  # fmt: skip


def ssd300(batch: int = 1, classes: int = 21, training: bool = False):
    """SSD-300: 26,285,486 parameters for 21 classes, 8,732 prior boxes per image.

    Ends in `detection_out` (1, 1, M, 7): image, label, score, xmin, ymin, xmax, ymax of each box kept.  With
    `training` it reads `label` (1, 1, M, 8) as AnnotatedData gives it, here for one box per image, and ends in
    `mbox_loss`.
    """
    n = NetSpec()
    inputs(n, (batch, 3, 300, 300), training=False)
    if training:
        n.label = L.Input(shape=dict(dim=[1, 1, batch, 8]))
    _extra_maps(n, _base(n))
    multibox_head(n, _SSD300, classes)
    if training:
        multibox_loss(n, classes)
    else:
        detections(n, classes)
    net = n.to_proto()
    net.name = "SSD-300"
    return net


def ssd_shapes(part: str = "train_test", batch: int = 1):
    """The nets of models/ssd_shapes: a small SSD for 128x128 pictures of five kinds of shapes, six classes in all.

    part: "train_test" reads data/shapes/{train,test}_lmdb and ends in `mbox_loss` in TRAIN, and in TEST in
        `detection_eval`, from which a solver computes the mAP.  "deploy" reads `data` (batch, 3, 128, 128) and ends in
        `detection_out`.
    """
    n, classes, in_train, in_test = NetSpec(), 6, dict(include=dict(phase=TRAIN)), dict(include=dict(phase=TEST))
    if part == "deploy":
        inputs(n, (batch, 3, 128, 128), training=False)
    else:
        n.data, n.label = _annotated("test", 50, **in_test)
    x = conv_bn(n, "conv1", n.data, 16, 3, pad=1, stride=2)
    for i, (width, stride) in enumerate(((32, 2), (64, 1), (128, 2), (128, 1), (128, 2), (128, 2)), start=2):
        x = conv_bn(n, f"conv{i}", x, width, 3, pad=1, stride=stride)
    multibox_head(n, _SHAPES, classes)
    if part == "deploy":
        detections(n, classes)
        net = n.to_proto()
    else:
        multibox_loss(n, classes, **in_train)
        detections(n, classes, **in_test)
        n.detection_eval = L.DetectionEvaluate(
            n.detection_out, n.label, num_classes=classes, overlap_threshold=0.5, evaluate_difficult_gt=False, **in_test
        )
        net = n.to_proto()
        train = NetSpec()
        train.data, train.label = _annotated("train", 16, **in_train)
        net.layer.insert(0, train.to_proto().layer[0])
    net.name = "ssd_shapes"
    return net


def _annotated(part: str, batch: int, **more):
    """Return the tops of a layer that reads the LMDB of a part; for training cropped, expanded, distorted, mirrored."""
    transform: dict[str, Any] = dict(mean_value=[127.0], scale=1 / 64, resize_param=dict(height=128, width=128))
    samplers: list[dict[str, Any]] = []
    if part == "train":
        transform |= dict(
            mirror=True,
            expand_param=dict(prob=0.2, max_expand_ratio=1.3),
            distort_param=dict(brightness_prob=0.5, brightness_delta=32, contrast_prob=0.5, contrast_lower=0.5,
                               contrast_upper=1.5, hue_prob=0.5, hue_delta=18, saturation_prob=0.5,
                               saturation_lower=0.5, saturation_upper=1.5),
            emit_constraint=dict(emit_type=caffe_pb2.EmitConstraint.CENTER),
        )  # fmt: skip
        samplers = [
            dict(use_original_image=True, max_trials=1, max_sample=1),
            dict(sampler=dict(min_scale=0.7, max_scale=1, min_aspect_ratio=0.75, max_aspect_ratio=1.33),
                 sample_constraint=dict(min_jaccard_overlap=0.1), max_trials=20, max_sample=1),
        ]  # fmt: skip
    return L.AnnotatedData(
        ntop=2, data_param=dict(source=f"data/shapes/{part}_lmdb", batch_size=batch, backend=P.Data.LMDB),
        transform_param=transform, annotated_data_param=dict(batch_sampler=samplers), **more,
    )  # fmt: skip
