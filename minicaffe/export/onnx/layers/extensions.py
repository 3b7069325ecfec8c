"""Layers of Caffe's forks that are a few elementwise, arranging or interpolating operators."""

from __future__ import annotations

import numpy as np

from minicaffe.export.onnx.common import append_axes, cast, reshape, statistics
from minicaffe.export.onnx.conversion import Conversion, exports
from minicaffe.export.onnx.layers.arrangement import cut
from minicaffe.export.onnx.layers.resampling import resized
from minicaffe.proto.caffe_pb2 import UnpoolingParameter


@exports("ReLU6")
def relu6(layer: Conversion) -> str:
    """Clip from 0 to 6."""
    return layer.op("Clip", layer.x, layer.floats(0, "min"), layer.floats(6, "max"))


@exports("Mish")
def mish(layer: Conversion) -> str:
    """Mul by the Tanh of the Softplus."""
    return layer.op("Mul", layer.x, layer.op("Tanh", layer.op("Softplus", layer.x)))


@exports("Permute", "Transpose")
def permute(layer: Conversion) -> str:
    """Transpose."""
    return layer.op("Transpose", layer.x, perm=layer.layer.order(len(layer.bottom_shapes[0])))


@exports("ShuffleChannel")
def shuffle_channel(layer: Conversion) -> str:
    """Reshape, Transpose, Reshape."""
    (_, channels, *spatial), group = layer.bottom_shapes[0], layer.layer.group
    x = reshape(layer, layer.x, [0, group, channels // group, *spatial])
    x = layer.op("Transpose", x, perm=[0, 2, 1, *range(3, 3 + len(spatial))])
    return reshape(layer, x, [0, channels, *spatial])


@exports("Reorg")
def reorg(layer: Conversion) -> str:
    """Reshape, Transpose, Reshape."""
    own = layer.layer
    x = layer.op("Transpose", reshape(layer, layer.x, [-1, *own.view[1:]]), perm=own.order)
    return reshape(layer, x, [-1, *layer.top_shapes[0][1:]])


@exports("Axpy")
def axpy(layer: Conversion) -> str:
    """Mul, Add; the factors with an axis of length 1 for each spatial axis."""
    factors, x, y = layer.bottoms
    axes = len(layer.bottom_shapes[1])
    if len(layer.bottom_shapes[0]) != axes:
        factors = reshape(layer, factors, [0, 0] + [1] * (axes - 2))
    return layer.op("Add", layer.op("Mul", factors, x), y)


@exports("NormL2", "Normalize")
def normalize(layer: Conversion) -> list[str]:
    """ReduceSumSquare, Add eps, Sqrt (L1: ReduceL1, Add eps), Div; with norm_param Mul by the scale."""
    own, shape = layer.layer, layer.bottom_shapes[0]
    axes = list(range(1, len(shape))) if own.across_spatial else [1]
    length = layer.op("ReduceL1" if own.absolute else "ReduceSumSquare", layer.x, axes=axes)
    length = layer.op("Add", length, layer.floats(own.eps, "eps"))
    if not own.absolute:
        length = layer.op("Sqrt", length)
    y = layer.op("Div", layer.x, length)
    if own.scaled:
        y = layer.op("Mul", y, layer.param(0) if own.shared else _by_channel(layer, 0))
    return [y, length][: len(layer.top_shapes)]


@exports("BN")
def bn(layer: Conversion) -> list[str]:
    """BatchNormalization (PSPNet); with the batch's statistics (SegNet) ReduceMean, Sub, Mul, Add, Sqrt, Div.

    With bn_mode INFERENCE: Mul, Add.
    """
    own = layer.layer
    if own.running and not own.plain:
        values = [layer.param(i, (own.channels,)) for i in range(4)]
        return [layer.op("BatchNormalization", layer.x, *values, epsilon=float(own.eps)), *_tops(layer, *values[2:])]
    y, mean, variance = layer.x, "", ""
    if own.plain and len(layer.top_shapes) > 1:
        mean, variance = (layer.floats([number] * own.channels, "statistics") for number in (0, 1))
    elif not own.plain:
        axes = [0, *range(2, len(layer.bottom_shapes[0]))]
        y, variance = statistics(layer, layer.x, axes)
        y = layer.op("Div", y, layer.op("Sqrt", layer.op("Add", variance, layer.floats(own.eps, "eps"))))
        mean = layer.op("ReduceMean", layer.x, axes=axes) if len(layer.top_shapes) > 1 else ""
    y = layer.op("Add", layer.op("Mul", y, _by_channel(layer, 0)), _by_channel(layer, 1))
    return [y, *_tops(layer, mean, variance)]


def _tops(layer: Conversion, mean: str, variance: str) -> list[str]:
    """Return those of mean and variance that are tops, as (1, C, 1, 1)."""
    wanted = (mean, variance)[: len(layer.top_shapes) - 1]
    return [reshape(layer, each, [1, layer.layer.channels, 1, 1]) for each in wanted]


def _by_channel(layer: Conversion, index: int) -> str:
    """Return a blob of one number for each channel in the form that is multiplied with (N, C, ...)."""
    return layer.param(index, (layer.layer.channels, *[1] * (len(layer.bottom_shapes[0]) - 2)))


@exports("Interp")
def interp(layer: Conversion) -> str:
    """Resize, linear, with align_corners; before it Slice where a border is cropped."""
    own, axes = layer.layer, len(layer.bottom_shapes[0])
    x = append_axes(layer, layer.x, axes, 4 - axes)
    if own.begin or own.end:
        x = cut(layer, (2, 3), [own.begin] * 2, [own.begin + length for length in own.cropped], value=x)
    size = layer.ints(layer.top_shapes[0][2:], "size")
    sizes = layer.op("Concat", layer.op("Shape", x, end=2), size, axis=0)
    return layer.op("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="align_corners")


@exports("Padding")
def padding(layer: Conversion) -> str:
    """Pad with 0, or Slice where rows and columns are removed; nothing without a border."""
    begin, end = layer.layer.begin, layer.layer.end
    if begin == end == 0:
        return layer.x
    if begin + end > 0:
        return layer.op("Pad", layer.x, layer.ints([0, 0, begin, begin, 0, 0, end, end], "pads"))
    sizes = layer.bottom_shapes[0][2:]
    return cut(layer, (2, 3), [-begin] * 2, [size + end for size in sizes])


@exports("Upsample")
def upsample(layer: Conversion) -> str:
    """ScatterElements of the values into zeros, at the places of the mask; without a mask Resize, nearest.

    If two windows have their maximum at one place, the order in which the runtime writes decides; onnxruntime keeps the
    later value, as the layer does.  Windows that do not overlap, as SegNet's, have no such places.
    """
    if layer.layer.repeats:
        scales = layer.floats([1, 1, *layer.layer.scale], "scales")
        options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return layer.op("Resize", layer.x, "", scales, **options)
    return _scattered(layer, _places_of_mask(layer))


@exports("Unpooling")
def unpooling(layer: Conversion) -> str:
    """MAX: ScatterElements into zeros, at the places of the mask or the first of each window.  TILE, AVE: MatMul.

    Two values at one place: as for Upsample.
    """
    own = layer.layer
    if own.method != UnpoolingParameter.MAX:
        return resized(layer, layer.x, own.spread.weights)
    if len(layer.bottoms) > 1:
        return _scattered(layer, _places_of_mask(layer))
    first = layer.ints(own.mask.read_data()[0, 0].reshape(-1), "places")
    return _scattered(layer, layer.op("Expand", first, layer.op("Shape", reshape(layer, layer.x, [0, 0, -1]))))


def _places_of_mask(layer: Conversion) -> str:
    return cast(layer, reshape(layer, layer.bottoms[1], [0, 0, -1]), np.int64)


def _scattered(layer: Conversion, places: str) -> str:
    """ScatterElements of the first bottom into pictures of zeros, at places (N, C, numbers)."""
    height, width = layer.top_shapes[0][2:]
    shape = layer.op("Concat", layer.op("Shape", layer.x, end=2), layer.ints([height * width], "size"), axis=0)
    zeros, values = layer.op("ConstantOfShape", shape), reshape(layer, layer.x, [0, 0, -1])
    return reshape(layer, layer.op("ScatterElements", zeros, places, values, axis=2), [0, 0, height, width])
