"""DenseNet (Huang et al., "Densely connected convolutional networks", 2016)."""

from __future__ import annotations

from minicaffe.models.zoo.blocks import MSRA, classify, conv_bn, finish, global_average, inputs, max_pool, normalise
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P


def _unit(n: NetSpec, name: str, bottom, growth: int):
    """BatchNorm, ReLU, 1x1; BatchNorm, ReLU, 3x3; concatenated to the bottom."""
    x = normalise(n, f"{name}/x1", bottom, relu=True, in_place=False)
    x = _conv(n, f"{name}/conv1", x, 4 * growth, 1)
    x = _conv(n, f"{name}/conv2", normalise(n, f"{name}/x2", x, relu=True), growth, 3, pad=1)
    n[f"{name}/concat"] = L.Concat(bottom, x)
    return n[f"{name}/concat"]


def _conv(n: NetSpec, name: str, bottom, num_output: int, kernel: int, **more):
    n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel, bias_term=False, **MSRA, **more)
    return n[name]


def densenet121(batch: int = 32, size: int = 224, classes: int = 1000, training: bool = True, growth: int = 32):
    """DenseNet-121: 7,978,856 parameters without BatchNorm's statistics."""
    n = NetSpec()
    inputs(n, (batch, 3, size, size), training)
    x, channels = max_pool(n, "pool1", conv_bn(n, "conv1", n.data, 2 * growth, 7, pad=3, stride=2), 3, 2), 2 * growth
    for block, units in enumerate((6, 12, 24, 16), start=1):
        for unit in range(1, units + 1):
            x = _unit(n, f"conv{block}_{unit}", x, growth)
        channels += units * growth
        if block < 4:
            channels //= 2
            x = _conv(n, f"conv{block}_blk", normalise(n, f"conv{block}_blk", x, relu=True), channels, 1)
            n[f"pool{block + 1}"] = L.Pooling(x, pool=P.Pooling.AVE, kernel_size=2, stride=2)
            x = n[f"pool{block + 1}"]
    x = global_average(n, "pool5", normalise(n, "conv5_blk", x, relu=True))
    return finish(n, classify(n, "fc6", x, classes), "DenseNet-121", training)
