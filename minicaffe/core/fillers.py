"""How a parameter starts: `weight_filler { type: "xavier" }` and its relatives.

`fill(blob, filler_param, generator)` is all that layers call.  The random streams cannot match the original's bit for
bit; the distributions do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minicaffe.errors import LayerError, nearest
from minicaffe.proto.caffe_pb2 import FillerParameter

Filler = Callable[[tuple[int, ...], FillerParameter, np.random.Generator], np.ndarray]

FILLERS: dict[str, Filler] = {}


def filler(name: str) -> Callable[[Filler], Filler]:
    """Register a filler under the name that prototxts use."""

    def add(function: Filler) -> Filler:
        FILLERS[name] = function
        return function

    return add


def fill(blob, param, generator: np.random.Generator) -> None:
    """Fill `blob.data` as the FillerParameter says; an unknown type raises `LayerError` with the known ones."""
    try:
        function = FILLERS[param.type]
    except KeyError:
        hint = nearest(param.type, FILLERS)
        raise LayerError(f'unknown filler "{param.type}"{hint}: known are {", ".join(sorted(FILLERS))}') from None
    blob.data = function(blob.shape, param, generator)


def _fan(shape: tuple[int, ...], param) -> float:
    """The n of xavier and msra: FAN_IN = count / shape[0], FAN_OUT = count / shape[1], or their AVERAGE."""
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    if param.variance_norm == param.FAN_OUT:
        return fan_out
    if param.variance_norm == param.AVERAGE:
        return (fan_in + fan_out) / 2
    return fan_in


@filler("constant")
def constant(shape, param, generator):
    """Every element is `value`."""
    return np.float64(param.value)


@filler("uniform")
def uniform(shape, param, generator):
    """Uniform between `min` and `max`."""
    return generator.uniform(param.min, param.max, shape)


@filler("gaussian")
def gaussian(shape, param, generator):
    """Normal with `mean` and `std`; `sparse` >= 0 keeps about that many inputs of each output (shape[0]) nonzero."""
    values = generator.normal(param.mean, param.std, shape)
    if param.sparse >= 0:
        values *= generator.random(shape) < param.sparse / shape[0]
    return values


@filler("positive_unitball")
def positive_unitball(shape, param, generator):
    """Uniform in [0, 1), then each row (axis 0) scaled to the sum 1."""
    values = generator.random(shape)
    return values / values.reshape(shape[0], -1).sum(1).reshape(-1, *[1] * (len(shape) - 1))


@filler("xavier")
def xavier(shape, param, generator):
    """Uniform within +-sqrt(3/n) (Glorot and Bengio, 2010)."""
    scale = math.sqrt(3 / _fan(shape, param))
    return generator.uniform(-scale, scale, shape)


@filler("msra")
def msra(shape, param, generator):
    """Normal with standard deviation sqrt(2/n) (He et al., 2015)."""
    return generator.normal(0, math.sqrt(2 / _fan(shape, param)), shape)


@filler("bilinear")
def bilinear(shape, param, generator):
    """Weights of bilinear upsampling, for a Deconvolution: (N, C, k, k) square kernels.

    An element at (y, x) is (1 - |y/f - c|) (1 - |x/f - c|) with f = ceil(k/2) and c = (k - 1) / 2f.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise LayerError(f'the filler "bilinear" needs a square 4-D weight (N, C, k, k), got {shape}')
    size = shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2 * factor)
    line = 1 - np.abs(np.arange(size) / factor - centre)
    return np.broadcast_to(np.outer(line, line), shape)
