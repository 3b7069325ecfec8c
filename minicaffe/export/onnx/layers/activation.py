"""Activations: functions of each number by itself."""

from __future__ import annotations

import numpy as np

from minicaffe.export.onnx.common import add, cast, multiply
from minicaffe.export.onnx.conversion import Conversion, exports


@exports("ReLU")
def relu(layer: Conversion) -> str:
    """Relu; LeakyRelu with a negative_slope."""
    slope = layer.layer.negative_slope
    return layer.op("LeakyRelu", layer.x, alpha=float(slope)) if slope else layer.op("Relu", layer.x)


@exports("PReLU")
def prelu(layer: Conversion) -> str:
    """PRelu, the slopes with an axis of length 1 for each spatial axis."""
    slopes = layer.layer.blobs[0].shape
    behind = len(layer.bottom_shapes[0]) - 2 if slopes else 0
    return layer.op("PRelu", layer.x, layer.param(0, (*slopes, *[1] * behind)))


@exports("ELU")
def elu(layer: Conversion) -> str:
    """Elu."""
    return layer.op("Elu", layer.x, alpha=float(layer.layer.alpha))


@exports("Sigmoid")
def sigmoid(layer: Conversion) -> str:
    """Sigmoid."""
    return layer.op("Sigmoid", layer.x)


@exports("TanH")
def tanh(layer: Conversion) -> str:
    """Tanh."""
    return layer.op("Tanh", layer.x)


@exports("AbsVal")
def absolute(layer: Conversion) -> str:
    """Abs."""
    return layer.op("Abs", layer.x)


@exports("BNLL")
def bnll(layer: Conversion) -> str:
    """Softplus."""
    return layer.op("Softplus", layer.x)


@exports("Swish")
def swish(layer: Conversion) -> str:
    """Mul by the Sigmoid of beta x."""
    return layer.op("Mul", layer.x, layer.op("Sigmoid", multiply(layer, layer.x, layer.layer.beta)))


@exports("Clip")
def clip(layer: Conversion) -> str:
    """Clip."""
    low, high = layer.layer.low, layer.layer.high
    return layer.op("Clip", layer.x, layer.floats(low, "min"), layer.floats(high, "max"))


@exports("Threshold")
def threshold(layer: Conversion) -> str:
    """Greater, Cast."""
    return cast(layer, layer.op("Greater", layer.x, layer.floats(layer.layer.threshold, "threshold")), np.float32)


@exports("Power")
def power(layer: Conversion) -> str:
    """Mul, Add, Pow, those that change nothing left out; Expand of a constant if power * scale is 0."""
    own = layer.layer
    if own.slope == 0:
        value = np.power(np.float32(own.shift), own.power)
        return layer.op("Expand", layer.floats(value, "value"), layer.op("Shape", layer.x))
    base = add(layer, multiply(layer, layer.x, own.scale), own.shift)
    return base if own.power == 1 else layer.op("Pow", base, layer.floats(own.power, "power"))


@exports("Exp")
def exp(layer: Conversion) -> str:
    """Mul by scale ln base, Exp, Mul by base ^ shift."""
    return multiply(layer, layer.op("Exp", multiply(layer, layer.x, layer.layer.inner)), layer.layer.outer)


@exports("Log")
def log(layer: Conversion) -> str:
    """Mul, Add, Log, Mul by 1 / ln base."""
    own = layer.layer
    inner = add(layer, multiply(layer, layer.x, own.scale), own.shift)
    return multiply(layer, layer.op("Log", inner), own.factor)


@exports("SpatialDropout")
@exports("Dropout")
def dropout(layer: Conversion) -> str:
    """Nothing; Mul by 1 - dropout_ratio if scale_train is false."""
    if layer.layer.drops:
        raise layer.impossible("it draws random numbers in TEST (sample_weights_test)")
    return multiply(layer, layer.x, layer.layer.scale_kept)
