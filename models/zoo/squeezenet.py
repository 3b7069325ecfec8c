"""SqueezeNet 1.1 (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016)."""

from __future__ import annotations

from minicaffe.models.zoo.blocks import MSRA, conv_relu, finish, global_average, inputs, max_pool
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L


def _fire(n: NetSpec, name: str, bottom, squeeze: int, expand: int):
    """A 1x1 that squeezes, then a 1x1 and a 3x3 that expand, concatenated."""
    x = conv_relu(n, f"{name}/squeeze1x1", bottom, squeeze, 1)
    a = conv_relu(n, f"{name}/expand1x1", x, expand, 1)
    b = conv_relu(n, f"{name}/expand3x3", x, expand, 3, pad=1)
    n[f"{name}/concat"] = L.Concat(a, b)
    return n[f"{name}/concat"]


def squeezenet(batch: int = 32, size: int = 227, classes: int = 1000, training: bool = True):
    """SqueezeNet 1.1: 1,235,496 parameters."""
    n = NetSpec()
    inputs(n, (batch, 3, size, size), training)
    x = max_pool(n, "pool1", conv_relu(n, "conv1", n.data, 64, 3, stride=2), 3, 2)
    for i, (squeeze, expand) in enumerate(((16, 64), (16, 64), (32, 128), (32, 128)), start=2):
        x = _fire(n, f"fire{i}", x, squeeze, expand)
        if i in (3, 5):
            x = max_pool(n, f"pool{i}", x, 3, 2)
    for i, (squeeze, expand) in enumerate(((48, 192), (48, 192), (64, 256), (64, 256)), start=6):
        x = _fire(n, f"fire{i}", x, squeeze, expand)
    n.drop9 = L.Dropout(x, in_place=True, dropout_ratio=0.5)
    x = global_average(n, "pool10", conv_relu(n, "conv10", n.drop9, classes, 1, filler=MSRA))
    return finish(n, x, "SqueezeNet-1.1", training)
