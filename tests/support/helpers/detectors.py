"""Small nets in the form of public single-shot detectors: MobileNet-SSD, FaceBoxes and RefineDet.

Each function returns a train net over the inputs `data` (N, 3, H, W) and `label` (1, 1, M, 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from minicaffe.models.zoo.blocks import MSRA, XAVIER, conv_bn, conv_relu, inputs, max_pool
from minicaffe.models.zoo.ssd import multibox_loss
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P

VARIANCE = [0.1, 0.1, 0.2, 0.2]


class Source(NamedTuple):
    """A feature map with predictions."""

    name: str
    top: Any
    priors: dict[str, Any]  #: fields of prior_box_param
    boxes: int  #: prior boxes of each place


def _start(shape: tuple[int, ...], boxes: int) -> NetSpec:
    n = NetSpec()
    inputs(n, shape, training=False)
    n.label = L.Input(shape=dict(dim=[1, 1, boxes, 8]))
    return n


def _predict(n: NetSpec, prefix: str, sources: Sequence[Source], classes: int, kernel: int = 3) -> None:
    """Add {prefix}_loc (N, P 4) and {prefix}_conf (N, P classes): a convolution of each source, channels last."""
    for kind, outputs in (("loc", 4), ("conf", classes)):
        parts = []
        for source in sources:
            stem = f"{source.name}_{prefix}_{kind}"
            n[stem] = L.Convolution(
                source.top, num_output=source.boxes * outputs, kernel_size=kernel, pad=kernel // 2, **XAVIER
            )
            n[f"{stem}_perm"] = L.Permute(n[stem], order=[0, 2, 3, 1])
            parts.append(L.Flatten(n[f"{stem}_perm"], axis=1))
            n[f"{stem}_flat"] = parts[-1]
        n[f"{prefix}_{kind}"] = L.Concat(*parts, axis=1)


def _priors(n: NetSpec, prefix: str, sources: Sequence[Source]) -> None:
    """Add {prefix}_priorbox (1, 2, P 4)."""
    parts = []
    for source in sources:
        parts.append(L.PriorBox(source.top, n.data, variance=VARIANCE, clip=False, offset=0.5, **source.priors))
        n[f"{source.name}_{prefix}_priorbox"] = parts[-1]
    n[f"{prefix}_priorbox"] = L.Concat(*parts, axis=2)


def mobilenet_ssd(shape: tuple[int, ...], boxes: int, classes: int):
    """chuanqi305's MobileNet-SSD: depthwise and 1x1 convolutions, 1x1 predictions, priors without `step`."""
    n = _start(shape, boxes)
    x, channels = conv_bn(n, "conv0", n.data, 8, 3, pad=1, stride=2), 8
    maps = {}
    for i, (width, stride) in enumerate(((16, 1), (16, 2), (32, 2), (32, 2)), start=1):
        x = conv_bn(n, f"conv{i}/dw", x, channels, 3, pad=1, stride=stride, group=channels)
        x, channels = conv_bn(n, f"conv{i}", x, width, 1), width
        maps[f"conv{i}"] = x
    sources = (
        Source("conv3", maps["conv3"], dict(min_size=12, aspect_ratio=[2], flip=True), 3),
        Source("conv4", maps["conv4"], dict(min_size=20, max_size=32, aspect_ratio=[2, 3], flip=True), 6),
    )
    _predict(n, "mbox", sources, classes, kernel=1)
    _priors(n, "mbox", sources)
    multibox_loss(n, classes)
    return n.to_proto()


def _crelu(n: NetSpec, name: str, bottom, width: int, kernel: int, stride: int):
    """Convolution, BatchNorm, then Scale and ReLU of both signs of it (Shang et al., 2016)."""
    n[name] = L.Convolution(
        bottom, num_output=width, kernel_size=kernel, pad=kernel // 2, stride=stride, bias_term=False, **MSRA
    )
    n[f"{name}_bn"] = L.BatchNorm(n[name], in_place=True)
    n[f"{name}_neg"] = L.Power(n[f"{name}_bn"], scale=-1)
    n[f"{name}_concat"] = L.Concat(n[f"{name}_bn"], n[f"{name}_neg"])
    n[f"{name}_scale"] = L.Scale(n[f"{name}_concat"], bias_term=True, in_place=True)
    n[f"{name}_relu"] = L.ReLU(n[f"{name}_scale"], in_place=True)
    return n[f"{name}_relu"]


def _inception(n: NetSpec, name: str, bottom, width: int):
    """Four branches of `width` channels each: average pooling, 1x1, 3x3, two 3x3."""
    n[f"{name}_pool_ave"] = L.Pooling(bottom, pool=P.Pooling.AVE, kernel_size=3, stride=1, pad=1)
    branches = [
        conv_bn(n, f"{name}_1x1", n[f"{name}_pool_ave"], width, 1),
        conv_bn(n, f"{name}_1x1_2", bottom, width, 1),
        conv_bn(n, f"{name}_3x3", conv_bn(n, f"{name}_3x3_reduce", bottom, width // 2, 1), width, 3, pad=1),
    ]
    x = conv_bn(n, f"{name}_3x3_2", conv_bn(n, f"{name}_3x3_2_reduce", bottom, width // 2, 1), width, 3, pad=1)
    branches.append(conv_bn(n, f"{name}_3x3_3", x, width, 3, pad=1))
    n[f"{name}_concat"] = L.Concat(*branches)
    return n[f"{name}_concat"]


def faceboxes(shape: tuple[int, ...], boxes: int):
    """FaceBoxes: CReLU, Inception, 21 anchors at each place of the first map; faces are class 1."""
    n = _start(shape, boxes)
    x = max_pool(n, "pool1", _crelu(n, "conv1", n.data, 6, 7, 4), 3, 2)
    x = max_pool(n, "pool2", _crelu(n, "conv2", x, 8, 5, 2), 3, 2)
    first = _inception(n, "inception_a1", x, 8)
    second = conv_bn(n, "conv3_2", conv_bn(n, "conv3_1", first, 8, 1), 16, 3, pad=1, stride=2)
    sources = (
        Source("inception_a1_concat", first, dict(min_size=[32, 64, 128], step=32, densify=True), 21),
        Source("conv3_2", second, dict(min_size=[96], step=64), 1),
    )
    _predict(n, "mbox", sources, classes=2)
    _priors(n, "mbox", sources)
    multibox_loss(n, 2)
    net = n.to_proto()
    loss = net.layer[-1].multibox_loss_param
    loss.loc_weight, loss.overlap_threshold, loss.neg_overlap, loss.neg_pos_ratio = 2, 0.35, 0.35, 7
    return net


def _connected(n: NetSpec, level: int, x, above, width: int):
    """RefineDet's transfer connection block: two convolutions, plus the block above made twice as large."""
    n[f"TL{level}_2"] = L.Convolution(
        conv_relu(n, f"TL{level}_1", x, width, 3, pad=1), num_output=width, kernel_size=3, pad=1, **XAVIER
    )
    if above is None:
        n[f"TL{level}_2_relu"] = L.ReLU(n[f"TL{level}_2"], in_place=True)
        x = n[f"TL{level}_2_relu"]
    else:
        up = dict(num_output=width, kernel_size=2, stride=2, **XAVIER)
        n[f"P{level + 1}-up"] = L.Deconvolution(above, convolution_param=up)
        n[f"Elt{level}"] = L.Eltwise(n[f"TL{level}_2"], n[f"P{level + 1}-up"])
        n[f"Elt{level}_relu"] = L.ReLU(n[f"Elt{level}"], in_place=True)
        x = n[f"Elt{level}_relu"]
    return conv_relu(n, f"P{level}", x, width, 3, pad=1)


def refinedet(shape: tuple[int, ...], boxes: int, classes: int, width: int = 12, odm_weight: float = 1):
    """RefineDet: priors moved by the first head (arm_loss, of two classes) are those of the second (odm_loss).

    width: channels of the connection blocks; odm_weight: loss_weight of odm_loss.
    """
    n = _start(shape, boxes)
    x = conv_relu(n, "conv2", conv_relu(n, "conv1", n.data, 8, 3, pad=1, stride=2), 12, 3, pad=1, stride=2)
    conv3 = conv_relu(n, "conv3", x, 16, 3, pad=1)
    n.conv3_norm = L.Normalize(
        conv3, across_spatial=False, channel_shared=False, scale_filler=dict(type="constant", value=10)
    )
    conv4 = conv_relu(n, "conv4", conv3, 16, 3, pad=1, stride=2)
    upper = _connected(n, 4, conv4, None, width)
    lower = _connected(n, 3, n.conv3_norm, upper, width)
    priors = [dict(min_size=size, aspect_ratio=[2], flip=True, step=step) for size, step in ((8, 4), (16, 8))]
    arm = (Source("conv3_norm", n.conv3_norm, priors[0], 3), Source("conv4", conv4, priors[1], 3))
    _predict(n, "arm", arm, classes=2)
    _priors(n, "arm", arm)
    _predict(n, "odm", (Source("P3", lower, {}, 3), Source("P4", upper, {}, 3)), classes)
    common = dict(loss_param=dict(normalization=P.Loss.VALID), objectness_score=0.01, neg_pos_ratio=3, neg_overlap=0.5,
                  code_type=P.PriorBox.CENTER_SIZE, mining_type=P.MultiBoxLoss.MAX_NEGATIVE)  # fmt: skip
    first = (n.arm_loc, n.arm_conf, n.arm_priorbox, n.label)
    n.arm_loss = L.MultiBoxLoss(*first, propagate_down=[True, True, False, False], num_classes=2, **common)
    n.arm_conf_reshape = L.Reshape(n.arm_conf, shape=dict(dim=[0, -1, 2]))
    n.arm_conf_softmax = L.Softmax(n.arm_conf_reshape, axis=2)
    n.arm_conf_flatten = L.Flatten(n.arm_conf_softmax, axis=1)
    second = (n.odm_loc, n.odm_conf, n.arm_priorbox, n.label, n.arm_conf_flatten, n.arm_loc)
    n.odm_loss = L.MultiBoxLoss(
        *second, propagate_down=[True] * 2 + [False] * 4, loss_weight=odm_weight, num_classes=classes, **common
    )
    return n.to_proto()
