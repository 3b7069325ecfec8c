"""Residual nets (He et al., "Deep residual learning for image recognition", 2015)."""

from __future__ import annotations

from typing import Any

from minicaffe.models.zoo.blocks import classify, conv_bn, finish, global_average, inputs, max_pool
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L


def _join(n: NetSpec, name: str, shortcut, branch):
    n[name] = L.Eltwise(shortcut, branch)
    n[f"relu_{name}"] = L.ReLU(n[name], in_place=True)
    return n[f"relu_{name}"]


def _bottleneck(n: NetSpec, name: str, bottom, width: int, stride: int, project: bool, dilation: int = 1):
    """1x1, 3x3, 1x1 beside a shortcut; the stride is in the first 1x1, as in the authors' files."""
    spread: dict[str, Any] = dict(dilation=dilation) if dilation > 1 else {}
    shortcut = conv_bn(n, f"{name}_branch1", bottom, 4 * width, 1, relu=False, stride=stride) if project else bottom
    x = conv_bn(n, f"{name}_branch2a", bottom, width, 1, stride=stride)
    x = conv_bn(n, f"{name}_branch2b", x, width, 3, pad=dilation, **spread)
    x = conv_bn(n, f"{name}_branch2c", x, 4 * width, 1, relu=False)
    return _join(n, name, shortcut, x)


_STAGES = {2: (64, 3), 3: (128, 4), 4: (256, 6), 5: (512, 3)}  # width and number of blocks of ResNet-50


def resnet_stem(n: NetSpec, bottom):
    """The first convolution and pooling; return the last top."""
    return max_pool(n, "pool1", conv_bn(n, "conv1", bottom, 64, 7, pad=3, stride=2), 3, 2)


def resnet_stage(n: NetSpec, bottom, stage: int, dilation: int = 1):
    """A stage of ResNet-50, 2 to 5, which halves the map except stage 2; return the last top.

    dilation: of the 3x3 convolutions; above 1 the stage keeps the size of the map.
    """
    (width, blocks), x = _STAGES[stage], bottom
    for block in range(blocks):
        stride = 2 if stage > 2 and block == 0 and dilation == 1 else 1
        x = _bottleneck(n, f"res{stage}{'abcdef'[block]}", x, width, stride, block == 0, dilation)
    return x


def resnet50(batch: int = 32, size: int = 224, classes: int = 1000, training: bool = True):
    """ResNet-50 with BatchNorm and Scale: 25,557,032 parameters without BatchNorm's statistics."""
    n = NetSpec()
    inputs(n, (batch, 3, size, size), training)
    x = resnet_stem(n, n.data)
    for stage in _STAGES:
        x = resnet_stage(n, x, stage)
    x = global_average(n, "pool5", x)
    return finish(n, classify(n, "fc1000", x, classes), "ResNet-50", training)


def _basic(n: NetSpec, name: str, bottom, width: int, stride: int):
    """Two 3x3 beside a shortcut; where the shape changes, the shortcut is a 1x1 projection."""
    shortcut = conv_bn(n, f"{name}_branch1", bottom, width, 1, relu=False, stride=2) if stride == 2 else bottom
    x = conv_bn(n, f"{name}_branch2a", bottom, width, 3, pad=1, stride=stride)
    x = conv_bn(n, f"{name}_branch2b", x, width, 3, relu=False, pad=1)
    return _join(n, name, shortcut, x)


def cifar_resnet(depth: int = 20, batch: int = 128, classes: int = 10, training: bool = True):
    """ResNet of depth 6n + 2 on 3x32x32: 16, 32 and 64 channels, n blocks each."""
    n = NetSpec()
    inputs(n, (batch, 3, 32, 32), training)
    x = conv_bn(n, "conv1", n.data, 16, 3, pad=1)
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range((depth - 2) // 6):
            x = _basic(n, f"res{stage}_{block}", x, width, 2 if stage > 1 and block == 0 else 1)
    x = global_average(n, "pool", x)
    return finish(n, classify(n, "fc", x, classes), f"ResNet-{depth}", training)
