"""The arithmetic of folding: layers that compute y = factor * x + term, and products whose weights can take them up.

Everything is computed in float64.  `Stays` is raised, with the reason, where a layer has no such form or a product
cannot take one up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minicaffe.core.layer import Layer, Shape
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.bias import Bias
from minicaffe.layers.dropout import Dropout
from minicaffe.layers.extensions.bn import BN
from minicaffe.layers.fused.groups import scaling
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.layers.power import Power
from minicaffe.layers.scale import Scale
from minicaffe.layers.shared.broadcast import Broadcast
from minicaffe.layers.shared.convolution_base import ConvolutionBase

Blobs = Sequence[np.ndarray]  #: the parameters of a layer


class Stays(Exception):
    """The reason why a layer cannot be folded: a clause that follows its name."""


# -- layers that are affine in each channel ----------------------------------------------------------------------------


class Affine(NamedTuple):
    """y = factor * x + term for each channel, axis 1.

    factor, term: (C,), or () for one number.
    """

    factor: np.ndarray
    term: np.ndarray

    @property
    def is_number(self) -> bool:
        """Whether factor and term are the same for all channels."""
        return not self.factor.ndim and not self.term.ndim

    def then(self, after: Affine) -> Affine:
        """The Affine that computes this one and `after` behind it."""
        return Affine(after.factor * self.factor, after.factor * self.term + after.term)


def affine_of(layer: Layer, blobs: Blobs) -> Affine | None:
    """Return what a layer of a net in TEST computes, if its type is one that may be folded; None for other types.

    blobs: its parameters, in place of `layer.blobs`.
    Raises Stays for a layer of such a type that is not affine in each channel, and for numbers that are not finite.
    """
    form = next((form for kind, form in _FORMS.items() if isinstance(layer, kind)), None)
    if form is None:
        return None
    with np.errstate(all="ignore"):  # not finite: see below
        found = form(layer, _exact(blobs))
    if found is None:
        return None
    affine = Affine(*(np.asarray(each, np.float64) for each in found))
    if not np.isfinite(affine.factor).all() or not np.isfinite(affine.term).all():
        raise Stays("its parameters give numbers that are not finite")
    return affine


def statistics_are_empty(layer: Layer, blobs: Blobs) -> bool:
    """Whether a layer is a BatchNorm of factor 0, with the statistics of no pass: it computes x / sqrt(eps)."""
    return isinstance(layer, BatchNorm) and not blobs[2].any()


def _batch_norm(layer: Any, blobs: Blobs):
    if not layer.use_global_stats:
        raise Stays("it normalizes by the statistics of the batch (use_global_stats: false)")
    mean, variance, weight = blobs
    share = 1 / weight[0] if weight[0] else 0.0
    return scaling(0.0, mean * share, variance * share, layer.eps, 1.0, 0.0)


def _bn(layer: Any, blobs: Blobs):
    if layer.of_batch:
        raise Stays("it normalizes by the statistics of the batch")
    if len(layer.layer_param.top) > 1:
        raise Stays("it has tops for mean and variance")
    scale, shift = (blob.reshape(-1) for blob in blobs[:2])
    if layer.plain:
        return scale, shift
    mean, variance = (blob.reshape(-1) for blob in blobs[2:])
    return scaling(0.0, mean, variance, layer.eps, scale, shift)


def _scale(layer: Any, blobs: Blobs):
    if not layer.learned:
        raise Stays("its factor is a second bottom")
    if layer.limited:
        raise Stays("each pass limits its factor")
    factor, *term = (_of_channels(layer, blob) for blob in blobs)
    return factor, term[0] if term else 0.0


def _bias(layer: Any, blobs: Blobs):
    if not layer.learned:
        raise Stays("its term is a second bottom")
    return 1.0, _of_channels(layer, blobs[0])


def _of_channels(layer: Broadcast, operand: np.ndarray) -> np.ndarray:
    """Return the operand of a Scale or Bias as (C,) or ()."""
    if operand.size == 1:
        return operand.reshape(())
    if layer.spread[1:2] != (operand.size,):
        raise Stays(f"its parameters of shape {operand.shape} are not one number for each channel")
    return operand.reshape(-1)


def _power(layer: Any, blobs: Blobs):
    return (layer.scale, layer.shift) if layer.power == 1 else None


def _dropout(layer: Any, blobs: Blobs):
    return None if layer.drops or layer.passes_through else (layer.scale_kept, 0.0)


_FORMS: dict[type[Layer], Callable] = {
    BatchNorm: _batch_norm, BN: _bn, Scale: _scale, Bias: _bias, Power: _power, Dropout: _dropout,
}  # fmt: skip


# -- products ----------------------------------------------------------------------------------------------------------


def is_product(layer: Layer) -> bool:
    """Whether a layer multiplies by weights that may take up an Affine."""
    return isinstance(layer, (ConvolutionBase, InnerProduct))


def check_product(layer: Any) -> None:
    """Raise Stays for a product whose channels are not on axis 1, or that multiplies several bottoms."""
    if layer.axis != 1:
        raise Stays(f"{titled(layer)} has axis {layer.axis}, not 1")
    if len(layer.layer_param.bottom) > 1:
        raise Stays(f"{titled(layer)} has several bottoms")
    if getattr(layer, "normalize", False):
        raise Stays(f"{titled(layer)} scales its weights to length 1")


def titled(layer: Layer) -> str:
    """Return type and name of a layer, for messages."""
    return f"{layer.type} '{layer.name}'"


def with_affine_behind(layer: Any, blobs: Blobs, affine: Affine) -> list[np.ndarray]:
    """Return the parameters of a product for which its top is what `affine` computes of it.

    There are two, the second the bias, unless there was no bias and the term is 0.
    """
    factor, term = (np.broadcast_to(each, layer.num_output) for each in affine)
    w, bias = _weights_and_bias(layer, blobs)
    return _with_bias(_outputs_times(layer, w, factor), bias * factor + term, len(blobs) > 1)


def with_affine_before(layer: Any, blobs: Blobs, affine: Affine, bottom: Shape) -> list[np.ndarray]:
    """Return the parameters of a product that computes from x what it computed from `affine` of x.

    bottom: shape of its bottom.
    A term is possible where no place of the top depends on padding, which is 0 and not the term.  Raises Stays
    otherwise.
    """
    factor, term = (np.broadcast_to(each, bottom[1]) for each in affine)
    w, bias = _weights_and_bias(layer, blobs)
    if term.any():
        if isinstance(layer, ConvolutionBase) and (layer.transposed or any(layer.window.pad)):
            where = "all inputs do not reach the border" if layer.transposed else "the padding is 0, not its term"
            raise Stays(f"{titled(layer)} behind it cannot take it up: {where}")
        bias = bias + _sums_over_inputs(_inputs_times(layer, w, term, bottom), layer)
    return _with_bias(_inputs_times(layer, w, factor, bottom), bias, len(blobs) > 1)


def _exact(blobs: Blobs) -> list[np.ndarray]:
    return [np.asarray(blob, np.float64) for blob in blobs]


def _weights_and_bias(layer: Any, blobs: Blobs) -> tuple[np.ndarray, np.ndarray]:
    """The parameters of a product, with a bias of 0 if it has none."""
    w, bias = _exact(blobs) if len(blobs) > 1 else [*_exact(blobs), np.zeros(layer.num_output)]
    return w, bias


def _with_bias(w: np.ndarray, bias: np.ndarray, had_bias: bool) -> list[np.ndarray]:
    return [w, bias] if had_bias or bias.any() else [w]


def _outputs_times(layer: Any, w: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiply the weights of each output channel by a number; factor: (num_output,)."""
    if isinstance(layer, InnerProduct):
        return w * (factor if layer.transpose else factor[:, None])
    return _second_axis_times(w, factor, layer.group) if layer.transposed else _first_axis_times(w, factor)


def _inputs_times(layer: Any, w: np.ndarray, factor: np.ndarray, bottom: Shape) -> np.ndarray:
    """Multiply the weights of each input channel by a number; factor: (C,)."""
    if isinstance(layer, InnerProduct):
        factor = np.repeat(factor, math.prod(bottom[2:]))
        return w * (factor[:, None] if layer.transpose else factor)
    return _first_axis_times(w, factor) if layer.transposed else _second_axis_times(w, factor, layer.group)


def _first_axis_times(w: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return w * factor.reshape(-1, *[1] * (w.ndim - 1))


def _second_axis_times(w: np.ndarray, factor: np.ndarray, group: int) -> np.ndarray:
    """w: (A, B / group, *kernel), its first axis in groups; factor: (B,)."""
    grouped = w.reshape(group, -1, *w.shape[1:])
    return (grouped * factor.reshape(group, 1, -1, *[1] * (w.ndim - 2))).reshape(w.shape)


def _sums_over_inputs(w: np.ndarray, layer: Any) -> np.ndarray:
    """Sum the weights of a Convolution or an InnerProduct to (num_output,)."""
    outputs = 1 if isinstance(layer, InnerProduct) and layer.transpose else 0
    return w.sum(tuple(axis for axis in range(w.ndim) if axis != outputs))
