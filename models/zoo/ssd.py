"""SSD-300 (Liu et al., "SSD: single shot multibox detector", 2015), for detection with trained weights."""

from __future__ import annotations

from minicaffe.models.zoo.blocks import XAVIER, conv_relu, inputs, max_pool
from minicaffe.models.zoo.vgg import STAGES
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P

# for each map with predictions: blob, smallest and largest box, aspect ratios besides 1, step in pixels
_MAPS = (
    ("conv4_3_norm", 30, 60, (2,), 8),
    ("fc7", 60, 111, (2, 3), 16),
    ("conv6_2", 111, 162, (2, 3), 32),
    ("conv7_2", 162, 213, (2, 3), 64),
    ("conv8_2", 213, 264, (2,), 100),
    ("conv9_2", 264, 315, (2,), 300),
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


def _predict(n: NetSpec, kind: str, blob: str, outputs: int):
    """A 3x3 convolution, its output channels moved last and flattened: (N, H * W * outputs)."""
    stem = f"{blob}_mbox_{kind}"
    source = n[f"relu_{blob}"] if f"relu_{blob}" in n.tops else n[blob]
    n[stem] = L.Convolution(source, num_output=outputs, kernel_size=3, pad=1, **XAVIER)
    n[f"{stem}_perm"] = L.Permute(n[stem], order=[0, 2, 3, 1])
    n[f"{stem}_flat"] = L.Flatten(n[f"{stem}_perm"], axis=1)
    return n[f"{stem}_flat"]


def _priors(n: NetSpec, blob: str, smallest: float, largest: float, ratios, step: float):
    source = n[f"relu_{blob}"] if f"relu_{blob}" in n.tops else n[blob]
    n[f"{blob}_mbox_priorbox"] = L.PriorBox(
        source, n.data, min_size=smallest, max_size=largest, aspect_ratio=list(ratios), flip=True, clip=False,
        variance=[0.1, 0.1, 0.2, 0.2], step=step, offset=0.5,
    )  # fmt: skip
    return n[f"{blob}_mbox_priorbox"]


def ssd300(batch: int = 1, classes: int = 21):
    """SSD-300: 26,285,486 parameters for 21 classes, 8,732 prior boxes per image.

    Ends in `detection_out` (1, 1, M, 7): image, label, score, xmin, ymin, xmax, ymax of each box kept.
    """
    n = NetSpec()
    inputs(n, (batch, 3, 300, 300), training=False)
    _extra_maps(n, _base(n))
    locations, confidences, priors = [], [], []
    for blob, smallest, largest, ratios, step in _MAPS:
        boxes = 2 + 2 * len(ratios)
        locations.append(_predict(n, "loc", blob, 4 * boxes))
        confidences.append(_predict(n, "conf", blob, classes * boxes))
        priors.append(_priors(n, blob, smallest, largest, ratios, step))
    n.mbox_loc, n.mbox_conf = L.Concat(*locations, axis=1), L.Concat(*confidences, axis=1)
    n.mbox_priorbox = L.Concat(*priors, axis=2)
    n.mbox_conf_reshape = L.Reshape(n.mbox_conf, shape=dict(dim=[0, -1, classes]))
    n.mbox_conf_softmax = L.Softmax(n.mbox_conf_reshape, axis=2)
    n.mbox_conf_flatten = L.Flatten(n.mbox_conf_softmax, axis=1)
    n.detection_out = L.DetectionOutput(
        n.mbox_loc, n.mbox_conf_flatten, n.mbox_priorbox, num_classes=classes, share_location=True,
        background_label_id=0, nms_param=dict(nms_threshold=0.45, top_k=400), code_type=P.PriorBox.CENTER_SIZE,
        keep_top_k=200, confidence_threshold=0.01,
    )  # fmt: skip
    net = n.to_proto()
    net.name = "SSD-300"
    return net
