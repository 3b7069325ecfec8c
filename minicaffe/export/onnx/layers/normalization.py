"""Normalizations."""

from __future__ import annotations

import numpy as np

from minicaffe.export.onnx.common import add, axis_of, centred, multiply, pads, statistics
from minicaffe.export.onnx.conversion import Conversion, exports


@exports("BatchNorm")
def batch_norm(layer: Conversion) -> str:
    """BatchNormalization, mean and variance divided by the factor; from the batch: ReduceMean, Sub, Add, Sqrt, Div."""
    own = layer.layer
    if not own.use_global_stats:
        axes = [i for i in range(len(layer.bottom_shapes[0])) if i != 1]
        deviations, variance = statistics(layer, layer.x, axes)
        return layer.op("Div", deviations, layer.op("Sqrt", add(layer, variance, own.eps)))
    mean, variance, weight = (blob.read_data() for blob in own.blobs)
    weight = 1 / weight[0] if weight[0] else 0
    ones, zeros = np.ones(own.channels), np.zeros(own.channels)
    named = (("scale", ones), ("bias", zeros), ("mean", mean * weight), ("variance", variance * weight))
    inputs = [layer.floats(values, name) for name, values in named]
    return layer.op("BatchNormalization", layer.x, *inputs, epsilon=float(own.eps))


@exports("MVN")
def mvn(layer: Conversion) -> str:
    """ReduceMean, Sub, then Sqrt of the mean square, Add eps, Div."""
    own, axes = layer.layer, list(range(1 if layer.layer.across else 2, len(layer.bottom_shapes[0])))
    if not axes:  # the mean of one number
        return layer.op("Sub", layer.x, layer.x)
    if not own.with_variance:
        return centred(layer, layer.x, axes)
    deviations, variance = statistics(layer, layer.x, axes)
    return layer.op("Div", deviations, add(layer, layer.op("Sqrt", variance), own.eps))


@exports("Softmax")
def softmax(layer: Conversion) -> str:
    """Softmax."""
    return layer.op("Softmax", layer.x, axis=axis_of(layer, layer.layer.given_axis))


@exports("LRN")
def lrn(layer: Conversion) -> str:
    """LRN; WITHIN_CHANNEL: Div by (1 + alpha AveragePool of squares) ^ beta, by Mul, Add, Pow."""
    own = layer.layer
    if own.across:
        numbers = {"alpha": float(own.alpha), "beta": float(own.beta), "bias": float(own.k)}
        return layer.op("LRN", layer.x, size=own.size, **numbers)
    squares = layer.op("Mul", layer.x, layer.x)
    window = {"kernel_shape": own.window.kernel, "pads": pads(own.window.pad), "count_include_pad": 1}
    scale = add(layer, multiply(layer, layer.op("AveragePool", squares, **window), own.rate), own.k)
    return layer.op("Div", layer.x, layer.op("Pow", scale, layer.floats(own.beta, "beta")))
