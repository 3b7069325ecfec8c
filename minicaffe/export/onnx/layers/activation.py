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


@exports("NegSquare")
def neg_square(layer: Conversion) -> str:
    """Mul, Neg."""
    return layer.op("Neg", layer.op("Mul", layer.x, layer.x))


@exports("Cosine")
def cosine(layer: Conversion) -> str:
    """Cos."""
    return layer.op("Cos", layer.x)


@exports("SeLu")
def selu(layer: Conversion) -> str:
    """Selu."""
    return layer.op("Selu", layer.x, alpha=float(layer.layer.alpha), gamma=float(layer.layer.scale))


@exports("RReLU")
def rrelu(layer: Conversion) -> str:
    """LeakyRelu with the slope of TEST."""
    return layer.op("LeakyRelu", layer.x, alpha=float(layer.layer.fixed))


@exports("M2PELU", "MPELU")
def m2pelu(layer: Conversion) -> str:
    """Relu, and Min with 0, Mul by beta, Exp, Sub of 1, Mul by alpha exp(gamma); Add."""
    behind = [1] * (len(layer.bottom_shapes[0]) - 2) if layer.layer.blobs[0].shape else []
    alpha, beta, *gamma = (blob.read_data().reshape((*blob.shape, *behind)) for blob in layer.layer.blobs)
    height = alpha * np.exp(gamma[0]) if gamma else alpha
    grown = layer.op("Mul", layer.op("Min", layer.x, layer.floats(0, "zero")), layer.floats(beta, "beta"))
    negative = add(layer, layer.op("Exp", grown), -1)
    return layer.op("Add", layer.op("Relu", layer.x), layer.op("Mul", negative, layer.floats(height, "alpha")))


@exports("Quant")
def quant(layer: Conversion) -> str:
    """sign: GreaterOrEqual, Where.  hard_tanh: Clip.  relu: LeakyRelu.  hwgq: Gather of the centers, Where.

    The center of a number has the index that counts the middles between centers that are below it.
    """
    own, x = layer.layer, layer.x
    if own.forward_func == "sign":
        high, low = layer.floats(1, "high"), layer.floats(-1, "low")
        return layer.op("Where", layer.op("GreaterOrEqual", x, layer.floats(0, "zero")), high, low)
    if own.forward_func == "hard_tanh":
        return layer.op("Clip", x, layer.floats(-1, "min"), layer.floats(1, "max"))
    if own.forward_func == "relu":
        return layer.op("LeakyRelu", x, alpha=float(own.slope))
    centers = own.centers.read_data()
    nearest = layer.floats(centers, "centers")
    if len(centers) > 1:
        middles, last = layer.floats((centers[:-1] + centers[1:]) / 2, "middles"), layer.ints([-1], "axis")
        below = cast(layer, layer.op("Greater", layer.op("Unsqueeze", x, last), middles), np.int64)
        nearest = layer.op("Gather", nearest, layer.op("ReduceSum", below, last, keepdims=0))
    positive = layer.op("Greater", x, layer.floats(0, "zero"))
    return layer.op("Where", positive, nearest, layer.floats(-own.slope, "negative"))


@exports("ExpMax")
def exp_max(layer: Conversion) -> str:
    """ReduceMax over the channels, Sub, Mul by scale ln base, Exp, Mul by base ^ shift."""
    differences = layer.op("Sub", layer.x, layer.op("ReduceMax", layer.x, axes=[1]))
    return multiply(layer, layer.op("Exp", multiply(layer, differences, layer.layer.inner)), layer.layer.outer)


@exports("Dropout", "SeLuDropout", "SpatialDropout")
def dropout(layer: Conversion) -> str:
    """Nothing; Mul by 1 - dropout_ratio if scale_train is false."""
    if layer.layer.drops:
        raise layer.impossible("it draws random numbers in TEST (sample_weights_test)")
    return multiply(layer, layer.x, layer.layer.scale_kept)
