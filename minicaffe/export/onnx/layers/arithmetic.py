"""Arithmetic with several operands, and reductions."""

from __future__ import annotations

from functools import reduce

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.export.onnx.common import append_axes, axis_of, multiply, reshape
from minicaffe.export.onnx.conversion import Conversion, exports
from minicaffe.proto.caffe_pb2 import EltwiseParameter, ReductionParameter


@exports("Eltwise")
def eltwise(layer: Conversion) -> str:
    """SUM: Mul by coeffs other than 1, Add.  PROD: Mul.  MAX: Max."""
    own, terms = layer.layer, layer.bottoms
    if own.operation == EltwiseParameter.SUM:
        terms = [multiply(layer, x, coeff) for x, coeff in zip(terms, own.coeffs)]
    operator = {EltwiseParameter.SUM: "Add", EltwiseParameter.PROD: "Mul", EltwiseParameter.MAX: "Max"}[own.operation]
    return reduce(lambda y, x: layer.op(operator, y, x), terms)


@exports("Scale", "EltwiseAffine")
def scale(layer: Conversion) -> str:
    """Mul, Add, the operands with an axis of length 1 for each axis behind those that they cover."""
    own = layer.layer
    own.apply_limits()
    product = layer.op("Mul", layer.x, _operand(layer))
    return product if own.bias_index is None else layer.op("Add", product, _param(layer, own.bias_index))


@exports("Bias")
def bias(layer: Conversion) -> str:
    """Add, the operand with an axis of length 1 for each axis behind those that it covers."""
    return layer.op("Add", layer.x, _operand(layer))


def _operand(layer: Conversion) -> str:
    """Return blob 0, or the second bottom."""
    if layer.layer.learned:
        return _param(layer, 0)
    return append_axes(layer, layer.bottoms[1], len(layer.bottom_shapes[1]), _axes_behind(layer))


def _param(layer: Conversion, index: int) -> str:
    return layer.param(index, (*layer.layer.blobs[index].shape, *[1] * _axes_behind(layer)))


def _axes_behind(layer: Conversion) -> int:
    """Return the number of axes of x behind those that an operand covers; 0 for one number."""
    own, axes = layer.layer, len(layer.bottom_shapes[0])
    covered = len(own.operand_shape(layer.bottom_shapes))
    return axes - canonical_axis(own.axis, axes) - covered if covered else 0


@exports("ChannelScale")
def channel_scale(layer: Conversion) -> list[str]:
    """Mul, the factors with the spatial axes of x, or the scale of global_scale; nothing if do_forward is false."""
    own, (x, factors) = layer.layer, layer.bottoms
    shape, given = layer.bottom_shapes
    if own.common:
        y = layer.op("Mul", x, layer.param(0))
    elif own.param.do_forward:
        wanted = (shape[0], 1, *shape[2:])
        y = layer.op("Mul", x, factors if given == wanted else reshape(layer, factors, [-1, *wanted[1:]]))
    else:
        y = x
    return [y, *(layer.op("Identity", layer.param(0)) for _ in layer.top_shapes[1:])]


@exports("Mean")
def mean(layer: Conversion) -> list[str]:
    """Mul, Add for each bottom."""
    own, tops = layer.layer, []
    for x, shape in zip(layer.bottoms, layer.bottom_shapes):
        shift = np.tile(own.shift.read_data(), (shape[1] // len(own.values), 1, 1))
        tops.append(layer.op("Add", multiply(layer, x, own.factor), layer.floats(shift, "shift")))
    return tops


@exports("MaskPooling")
def mask_pooling(layer: Conversion) -> str:
    """Mul."""
    return layer.op("Mul", *layer.bottoms)


@exports("ChannelNorm")
def channel_norm(layer: Conversion) -> str:
    """ReduceL2 over the channels."""
    return layer.op("ReduceL2", layer.x, axes=[1])


@exports("Reduction")
def reduction(layer: Conversion) -> str:
    """ReduceSum, ReduceL1, ReduceSumSquare or ReduceMean over the last axes, Mul by coeff."""
    own, axes = layer.layer, range(axis_of(layer, layer.layer.given_axis), len(layer.bottom_shapes[0]))
    operators = {
        ReductionParameter.ASUM: "ReduceL1",
        ReductionParameter.SUMSQ: "ReduceSumSquare",
        ReductionParameter.MEAN: "ReduceMean",
    }
    if own.operation in operators:
        reduced = layer.op(operators[own.operation], layer.x, axes=axes, keepdims=0)
    else:  # the one whose axes are an input in opset 17
        reduced = layer.op("ReduceSum", layer.x, layer.ints(axes, "axes"), keepdims=0)
    return multiply(layer, reduced, own.coeff)
