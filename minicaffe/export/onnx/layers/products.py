"""Products with learned or constant matrices."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.export.onnx.common import pads, reshape
from minicaffe.export.onnx.conversion import Conversion, exports
from minicaffe.layers.shared.binary_weights import BinaryWeights
from minicaffe.layers.shared.dense_step import BN_EPS
from minicaffe.layers.shared.unit_rows import unit_rows
from minicaffe.layers.shared.window import Window

_MOST_ONE_HOT = 1 << 26  #: numbers in the kernels of an Im2col, 256 MB


@exports("Convolution", "Convolution3D", "ConvolutionDepthwise", "DepthwiseConvolution", "NdConvolution")
def convolution(layer: Conversion) -> list[str]:
    """Conv; Reshape around it where axis is not 1."""
    return [_correlate(layer, i, "Conv") for i in range(len(layer.bottoms))]


@exports("BinaryConvolution")
def binary_convolution(layer: Conversion) -> list[str]:
    """As Convolution, of the weights of two values."""
    return convolution(layer)


@exports("Deconvolution", "Deconvolution3D")
def deconvolution(layer: Conversion) -> list[str]:
    """ConvTranspose: the same order of weights; Reshape around it where axis is not 1."""
    return [_correlate(layer, i, "ConvTranspose") for i in range(len(layer.bottoms))]


def _correlate(layer: Conversion, i: int, operator: str) -> str:
    """Convert bottom i; a blob without spatial axes gets one of length 1, which ONNX requires."""
    own, window = layer.layer, layer.layer.window.with_axes(max(1, layer.layer.num_spatial))
    weights = _weights(layer, (*own.blobs[0].shape[:2], *window.kernel))
    bias = [layer.param(1)] if own.bias_term else []
    x = _samples(layer, layer.bottoms[i], own.axis, layer.bottom_shapes[i])
    y = layer.op(operator, x, weights, *bias, group=own.group, **_attributes(window))
    return _unsampled(layer, y, own.axis, layer.top_shapes[i])


def _weights(layer: Conversion, shape: tuple[int, ...]) -> str:
    """Add the weights that are multiplied, which for some types are computed from the blob."""
    own = layer.layer
    if isinstance(own, BinaryWeights) and own.binarizes:
        return layer.floats(own.binary().reshape(shape), "0")
    if getattr(own, "normalize", False):
        return layer.floats(unit_rows(own.blobs[0].read_data()).reshape(shape), "0")
    return layer.param(0, shape)


@exports("Im2col")
def im2col(layer: Conversion) -> str:
    """Conv with a one-hot kernel for each place, in groups of one channel.

    An infinite value makes the others in its window nan, as each is multiplied by 0 or 1.
    """
    own, shape = layer.layer, layer.bottom_shapes[0]
    channels, places = shape[own.axis], math.prod(own.window.kernel)
    if channels * places**2 > _MOST_ONE_HOT:
        raise layer.impossible(f"one-hot kernels of {places} places for {channels} channels would be too large")
    one_hot = np.tile(np.eye(places, dtype=np.float32), (channels, 1)).reshape(channels * places, 1, *own.window.kernel)
    x = _samples(layer, layer.x, own.axis, shape)
    y = layer.op("Conv", x, layer.floats(one_hot, "places"), group=channels, **_attributes(own.window))
    return _unsampled(layer, y, own.axis, layer.top_shapes[0])


def _attributes(window: Window) -> dict[str, list[int] | tuple[int, ...]]:
    kernel, stride, pad, dilation = window
    return {"kernel_shape": kernel, "strides": stride, "pads": pads(pad), "dilations": dilation}


def _samples(layer: Conversion, value: str, axis: int, shape: tuple[int, ...]) -> str:
    """Reshape a value to (N, C, *spatial), N the product of the axes before `axis`; the value if it is that already."""
    spatial = shape[axis + 1 :] or (1,)
    return value if axis == 1 and len(shape) > 2 else reshape(layer, value, [-1, shape[axis], *spatial])


def _unsampled(layer: Conversion, value: str, axis: int, shape: tuple[int, ...]) -> str:
    """Reshape (N, C, *spatial) to the shape of a top."""
    if axis == 1 and len(shape) > 2:
        return value
    return reshape(layer, value, [-1, *shape[1:]] if axis else shape)


@exports("InnerProduct")
def inner_product(layer: Conversion) -> str:
    """Flatten, Gemm (transB unless transpose); Reshape to the axes of x before axis where it is not 1."""
    own = layer.layer
    x = layer.x if own.axis == 1 and len(layer.bottom_shapes[0]) == 2 else layer.op("Flatten", layer.x, axis=own.axis)
    params, given = layer.bottoms[1:], len(layer.bottoms) > 1
    if not given:
        params.append(_weights(layer, own.blobs[0].shape))
    params += [layer.param(i) for i in range(1 - given, len(own.blobs))]
    if len(layer.bottoms) > 1 and len(layer.bottom_shapes[1]) > 2:
        params[0] = layer.op("Flatten", params[0], axis=1)
    y = layer.op("Gemm", x, *params, transB=int(not own.transpose))
    return _before_axis(layer, y)


@exports("BinaryInnerProduct")
def binary_inner_product(layer: Conversion) -> str:
    """As InnerProduct, of the weights of two values."""
    return inner_product(layer)


@exports("DenseBlock")
def dense_block(layer: Conversion) -> str:
    """BatchNormalization, Relu, Conv for each step, before it the same with 1x1 kernels for use_BC; Concat."""
    own, x = layer.layer, layer.x

    def normalized(value: str, t: int, group: int) -> str:
        places = (own.count * (group + i) + t for i in range(4))
        values = [layer.param(i, (own.blobs[i].count,)) for i in places]
        return layer.op("Relu", layer.op("BatchNormalization", value, *values, epsilon=BN_EPS))

    for t in range(own.count):
        y = normalized(x, t, 1)
        if own.bottleneck:
            y = normalized(layer.op("Conv", y, layer.param(5 * own.count + t)), t, 6)
        kernels = layer.floats(own.blobs[t].read_data()[:, :, ::-1, ::-1], str(t))
        x = layer.op("Concat", x, layer.op("Conv", y, kernels, pads=[1] * 4), axis=1)
    return x


@exports("InnerDistance")
def inner_distance(layer: Conversion) -> str:
    """L2: Gemm, Add of both squares, Relu.  L1: Sub, ReduceL1.  Flatten and Reshape as for InnerProduct."""
    own, x = layer.layer, layer.op("Flatten", layer.x, axis=layer.layer.axis)
    if own.stored:
        w = _weights(layer, own.blobs[0].shape)
    else:
        w = reshape(layer, layer.bottoms[1], [own.num_output, own.inputs])
    if own.absolute:
        differences = layer.op("Sub", layer.op("Unsqueeze", x, layer.ints([1], "axes")), w)
        return _before_axis(layer, layer.op("ReduceL1", differences, axes=[2], keepdims=0))
    squares = layer.op("ReduceSumSquare", x, axes=[1])
    of_w = layer.op("ReduceSumSquare", w, axes=[1], keepdims=0)
    products = layer.op("Gemm", x, w, transB=1, alpha=-2.0)
    return _before_axis(layer, layer.op("Relu", layer.op("Add", layer.op("Add", products, squares), of_w)))


def _before_axis(layer: Conversion, y: str) -> str:
    """Reshape (M, num_output) to the axes of x before `axis`, and num_output."""
    own = layer.layer
    if own.axis == 1:
        return y
    before = layer.op("Shape", layer.x, end=own.axis)
    return layer.op("Reshape", y, layer.op("Concat", before, layer.ints([own.num_output]), axis=0))
