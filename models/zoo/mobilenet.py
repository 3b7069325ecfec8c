"""MobileNet v1 (Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision", 2017)."""

from __future__ import annotations

from minicaffe.models.zoo.blocks import classify, conv_bn, finish, global_average, inputs
from minicaffe.net_spec import NetSpec

# output channels of each pair of a depthwise 3x3 and a 1x1, and the stride of the 3x3
_PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def mobilenet(batch: int = 32, size: int = 224, classes: int = 1000, training: bool = True):
    """MobileNet v1: 4,231,976 parameters without BatchNorm's statistics."""
    n = NetSpec()
    inputs(n, (batch, 3, size, size), training)
    x, channels = conv_bn(n, "conv1", n.data, 32, 3, pad=1, stride=2), 32
    for i, (width, stride) in enumerate(_PAIRS, start=1):
        x = conv_bn(n, f"conv{i}/dw", x, channels, 3, pad=1, stride=stride, group=channels)
        x = conv_bn(n, f"conv{i}/sep", x, width, 1)
        channels = width
    return finish(n, classify(n, "fc7", global_average(n, "pool6", x), classes), "MobileNet", training)
