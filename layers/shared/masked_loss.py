"""The base of losses of differences that may be unknown: L1Loss, LpqLoss."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minicaffe.layers.shared.loss import DeviceTerms, LossLayer


class Powers(NamedTuple):
    """The loss of a place, (shift_q + scale * S)^q, with S = sum over the channels of (shift_p + |d|)^p.

    scale: 1, or 1 over the number of channels, see `MaskedLoss.rule`.

    masked: whether a d that is nan is 0, without a gradient, and does not count as an entry.
    slope_at_0: the sign of d = 0 in the gradient.
    plateau: below it |d| counts as 0, or, with `whole`, scale * S does.
    """

    p: float = 1.0
    q: float = 1.0
    shift_p: float = 0.0
    shift_q: float = 0.0
    scale: float = 1.0
    plateau: float = 0.0
    whole: bool = False
    slope_at_0: float = -1.0
    masked: bool = True


class MaskedLoss(LossLayer):
    """The sum over places of the loss of d = a - b, or of d = a, divided by N or by the number of known entries over C.

    A type sets `powers`, `by_entries` and `by_channels`, in `setup` or before each pass.
    """

    fork = "FlowNet 2.0"
    exact_num_bottom = None
    min_bottom, max_bottom = 1, 2
    no_gradient = ()
    powers: Powers
    by_entries = False  #: whether the sum is divided by the number of entries that are not nan, over C
    by_channels = False  #: whether the sum over the channels is divided by their number

    @classmethod
    def kernel_file(cls):
        return "extensions/l1_loss"

    def setup(self, bottom, top):
        self.terms = DeviceTerms(self.dtype)

    def check_exponent(self, exponent: float, name: str, shift: float, shift_name: str) -> None:
        """LayerError where the gradient at a sum of 0 would be infinite."""
        if exponent <= 0:
            raise self.error(f"{name} must be above 0, got {exponent:g}")
        if exponent < 1 and shift <= 0:
            raise self.error(f"{name} {exponent:g}, below 1, needs {shift_name} above 0, got {shift:g}")

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        if len(shape) < 2 or shape[1] < 1:
            raise self.error(f"bottom 0 must be (N, C, ...), got {shape}")
        if shape != bottom_shapes[-1]:
            raise self.error(f"bottoms must have equal shapes, got {shape} and {bottom_shapes[-1]}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        outer, channels, *places = bottom[0].shape
        self.view = outer, channels, math.prod(places)

    @property
    def rule(self) -> Powers:
        """The powers of a pass, with the scale for the number of channels."""
        return self.powers._replace(scale=1 / self.view[1]) if self.by_channels else self.powers

    # -- numpy -----------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        d, known = self._differences(bottom)
        _, inside, _, _ = self._sums(d)
        self.divisor = max(1.0, np.count_nonzero(known) / self.view[1]) if self.by_entries else self.batch_size(bottom)
        top[0].data[...] = (inside**self.rule.q).sum() / self.divisor

    def backward_cpu(self, top, propagate_down, bottom):
        if not any(propagate_down):
            return
        powers = self.rule
        d, known = self._differences(bottom)
        base, inside, flat, plain = self._sums(d)
        scale = self.dtype.type(self.loss_weight(top) / self.divisor * powers.scale * powers.p * powers.q)
        slope = np.where(d == 0, powers.slope_at_0, np.sign(d)).astype(self.dtype) * base ** (powers.p - 1)
        slope *= np.where(flat, 0, scale * inside ** (powers.q - 1))
        slope = np.where(known & ~plain, slope, 0)
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                np.multiply(slope.reshape(blob.shape), sign, out=blob.diff)

    def _differences(self, bottom):
        """d as (N, C, places), with 0 for what is masked, and what is not."""
        a, *b = (blob.read_data().reshape(self.view) for blob in bottom)
        d = a - b[0] if b else a
        if not self.rule.masked:
            return d, np.ones(d.shape, bool)
        known = ~np.isnan(d)
        return np.where(known, d, 0), known

    def _sums(self, d):
        """shift_p + |d|; shift_q + scale * S; where scale * S is on the plateau; where |d| is."""
        powers = self.rule
        plain = np.abs(d) < (0 if powers.whole else powers.plateau)
        base = np.where(plain, 0, np.abs(d)) + self.dtype.type(powers.shift_p)
        total = (base**powers.p).sum(1, keepdims=True) * self.dtype.type(powers.scale)
        flat = total < (powers.plateau if powers.whole else 0)
        return base, np.where(flat, 0, total) + self.dtype.type(powers.shift_q), flat, plain

    # -- CUDA ------------------------------------------------------------------------------------------------------

    def forward_gpu(self, bottom, top):
        outer, channels, inner = self.view
        n, (terms, counted) = outer * inner, self.terms.pointers(outer * inner)
        self.kernel("losses")(n, channels, inner, *self.rule, *self._inputs(bottom), terms, counted)
        self.terms.finish(n, 0 if self.by_entries else self.batch_size(bottom), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if any(propagate_down):
            outer, channels, inner = self.view
            scale = top[0].gpu_diff(), self.terms.divisor
            diffs = [blob.mutable_gpu_diff() if wanted else 0 for blob, wanted in zip(bottom, propagate_down)]
            arguments = *self.rule, *self._inputs(bottom), *scale, *(*diffs, 0)[:2]
            self.kernel("gradient")(outer * inner, channels, inner, *arguments)

    @staticmethod
    def _inputs(bottom) -> tuple[int, ...]:
        return (*(blob.gpu_data() for blob in bottom), 0)[:2]
