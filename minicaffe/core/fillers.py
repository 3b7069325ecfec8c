"""Fillers: initial values of parameters, as in `weight_filler { type: "xavier" }`.

Layers call `fill(blob, filler_param, generator)`.  The distributions are Caffe's; the random numbers are not.

A filler is a function (shape, FillerParameter, numpy Generator) -> array of that shape, or of one broadcast to it.
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
    """Decorator that registers a filler under its `type` in prototxts."""

    def add(function: Filler) -> Filler:
        FILLERS[name] = function
        return function

    return add


def fill(blob, param, generator: np.random.Generator) -> None:
    """Fill `blob.data` by the filler that a FillerParameter specifies.

    A blob without numbers stays as it is.  Raises `LayerError` for an unknown type, with the known types, and for a
    distribution that does not exist, such as one of negative width.
    """
    try:
        function = FILLERS[param.type]
    except KeyError:
        hint = nearest(param.type, FILLERS)
        raise LayerError(f'unknown filler "{param.type}"{hint}: known are {", ".join(sorted(FILLERS))}') from None
    if blob.count:
        blob.data = function(blob.shape, param, generator)


def _rows(shape: tuple[int, ...]) -> int:
    """Return the length of axis 0, 1 for a scalar."""
    return shape[0] if shape else 1


def _fan(shape: tuple[int, ...], param) -> float:
    """Return n of `xavier` and the others: FAN_IN (count / shape[0]), FAN_OUT (count / shape[1]), or their AVERAGE."""
    count = math.prod(shape)
    fan_in = count / _rows(shape)
    fan_out = count / shape[1] if len(shape) > 1 else count
    if param.variance_norm == param.FAN_OUT:
        return fan_out
    if param.variance_norm == param.AVERAGE:
        return (fan_in + fan_out) / 2
    return fan_in


@filler("constant")
def constant(shape, param, generator):
    """The constant `value`."""
    return np.float64(param.value)


@filler("uniform")
def uniform(shape, param, generator):
    """Uniform distribution on [`min`, `max`); LayerError unless min <= max, both finite."""
    if not -math.inf < param.min <= param.max < math.inf:
        raise LayerError(f'the filler "uniform" needs finite min <= max, got {param.min:g} and {param.max:g}')
    return generator.uniform(param.min, param.max, shape)


@filler("gaussian")
def gaussian(shape, param, generator):
    """Normal distribution with `mean` and `std`; LayerError for a negative std, and unless both are finite.

    sparse: if not negative, each element is kept with probability sparse / shape[0], and set to 0 otherwise.
    """
    if not (math.isfinite(param.mean) and 0 <= param.std < math.inf):
        raise LayerError(
            f'the filler "gaussian" needs a finite mean and a std of 0 or more, got {param.mean:g} and {param.std:g}'
        )
    values = generator.normal(param.mean, abs(param.std), shape)  # abs: of -0.0
    if param.sparse >= 0:
        values *= generator.random(shape) < param.sparse / _rows(shape)
    return values


@filler("positive_unitball")
def positive_unitball(shape, param, generator):
    """Uniform distribution on [0, 1), then divided by the sum over each row (all axes but axis 0)."""
    values = generator.random(shape)
    return values / values.reshape(_rows(shape), -1).sum(1).reshape(-1, *[1] * (len(shape) - 1))


@filler("gaussian_unitball")
def gaussian_unitball(shape, param, generator):
    """Normal distribution, then divided by the length of each row (all axes but axis 0): NormFace's class centres."""
    values = generator.normal(0, 1, shape)
    lengths = np.sqrt(np.square(values.reshape(_rows(shape), -1)).sum(1) + 1e-12)
    return values / lengths.reshape(-1, *[1] * (len(shape) - 1))


@filler("xavier")
def xavier(shape, param, generator):
    """Uniform distribution on [-sqrt(3/n), sqrt(3/n)) (Glorot and Bengio, AISTATS 2010), n by `variance_norm`."""
    scale = math.sqrt(3 / _fan(shape, param))
    return generator.uniform(-scale, scale, shape)


@filler("msra")
def msra(shape, param, generator):
    """Normal distribution with mean 0 and standard deviation sqrt(2/n) (He et al., ICCV 2015), n by `variance_norm`."""
    return generator.normal(0, math.sqrt(2 / _fan(shape, param)), shape)


@filler("taylor")
def taylor(shape, param, generator):
    """Normal distribution with mean 0 and variance 2 / (n (1 + (`alpha` `beta`)^2)), n by `variance_norm`.

    For an activation of slope alpha beta below 0: PReLU, ELU or MPELU (Li et al., arXiv:1606.00305, 2016).
    """
    slope = param.alpha * param.beta
    return generator.normal(0, math.sqrt(2 / (_fan(shape, param) * (1 + slope * slope))), shape)


@filler("bilinear")
def bilinear(shape, param, generator):
    """Weights of bilinear upsampling for a Deconvolution, (N, C, k, k); LayerError for other shapes.

    The element at (y, x) is (1 - |y/f - c|) (1 - |x/f - c|) with f = ceil(k/2) and c = (k - 1) / 2f.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise LayerError(f'the filler "bilinear" needs a square 4-D weight (N, C, k, k), got {shape}')
    size = shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2 * factor)
    line = 1 - np.abs(np.arange(size) / factor - centre)
    return np.broadcast_to(np.outer(line, line), shape)


@filler("diagonal")
def diagonal(shape, param, generator):
    """Weights of a Convolution, (N, C, ...), that scale channels: the n-th output has the n-th input's mean over the
    kernel, times the n-th `diag_val`, or 1; LayerError for a blob without channels."""
    if len(shape) < 2:
        raise LayerError(f'the filler "diagonal" needs a weight (N, C, ...), got {shape}')
    places = math.prod(shape[2:])
    values, count = np.zeros((*shape[:2], places)), min(shape[:2])
    factors = np.ones(count)
    factors[: len(param.diag_val)] = param.diag_val[:count]
    values[np.arange(count), np.arange(count)] = factors[:, None] / places
    return values.reshape(shape)
