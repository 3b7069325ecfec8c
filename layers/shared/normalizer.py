"""Normalization of channels on the GPU, alone or with the layers behind it: launches of cuda/batch_norm.cu."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda import context
from minicaffe.cuda.kernels import Kernel, kernel
from minicaffe.cuda.memory import GPU
from minicaffe.layers.shared.exchange import Exchange

_WHOLE, _GIVEN, _STORED = -1, 0, -2  #: in place of a number of parts, as in batch_norm.cu
_MOST_WHOLE = 1 << 15  #: values of a channel that one block reads twice in the time that a second launch takes
_THREADS, _MOST_THREADS = 256, 1024
_PART = 2048  #: values of which a part has a multiple
_BLOCKS = 8  #: for each multiprocessor


class Followers(NamedTuple):
    """What works in place on the result: a Scale, by the addresses of its factors and terms or 0, and a ReLU."""

    s: int = 0
    b: int = 0
    relu: bool = False
    slope: float = 0.0


ALONE = Followers()


class Moments(NamedTuple):
    """Mean and sum of squared deviations of parts of each channel, on the device: `parts` of `length` values."""

    partial: int
    parts: int
    length: int


class Joined(NamedTuple):
    """A sum with another blob, before the ReLU: factor * inner + other_factor * other.

    other, inner: addresses of the other blob and of that which gets the scaled values; 0 without a sum.
    """

    factor: float = 1.0
    other_factor: float = 0.0
    other: int = 0
    inner: int = 0


NOT_JOINED = Joined()


class Gradients(NamedTuple):
    """Addresses that a backward pass reads and writes; 0 for what there is not.

    dy, second: what the readers of the result leave; g = dy + second, times the ReLU's gradient, by the signs of `top`
        or, if that is 0, of the scaled values.
    through: gets g.  beside: the other blob of a sum gets its gradient.  inner: gets that of the Scale's result, after
        the Scale in place.  db, ds: gradients of term and factor, added to.  dx: the gradient of x.
    """

    dy: int
    second: int = 0
    top: int = 0
    through: int = 0
    beside: int = 0
    db: int = 0
    ds: int = 0
    inner: int = 0
    dx: int = 0


class Normalizer:
    """Normalizes the channels of x (N, C, ...), and keeps what its backward pass needs.

    eps: what is added to the variance.  exchange: with the other ranks, or None.
    x: the values that were normalized, if the last forward pass has kept them.  mean, deviation, variance: (C,) each;
    the variance is that of the last batch.  means: of the gradients of all ranks' batches, (2, C).
    """

    def __init__(self, channels: int, eps: float, dtype: np.dtype, exchange: Exchange | None) -> None:
        self.channels, self.eps, self.dtype, self.exchange = channels, eps, dtype, exchange
        self.x, self._partial, self.means = Blob((), dtype), Blob((), dtype), Blob((2, channels), dtype)
        self.mean, self.deviation, self.variance = (Blob((channels,), dtype) for _ in range(3))
        self._of_batch = True  # whether the last statistics were those of a batch

    def values(self, shape: tuple[int, ...]) -> int:
        """Return the address of memory for values of this shape, from which a forward pass may read them: `x`."""
        self.x.reshape(shape)
        return self.x.mutable_gpu_data()

    def room(self, parts: int, length: int) -> Moments:
        """Return memory for the moments of so many parts of so many values."""
        self._partial.reshape(2 * self.channels * parts)
        return Moments(self._partial.mutable_gpu_data(), parts, length)

    # -- forward -------------------------------------------------------------------------------------------------------

    def by_batch(
        self,
        shape: tuple[int, ...],
        x: int,
        y: int,
        followers: Followers = ALONE,
        joined: Joined = NOT_JOINED,
        moments: Moments | None = None,
        running: Sequence[int] = (),
        fraction: float = 0.0,
    ) -> None:
        """Write y, with the statistics of x, which are kept.

        moments: of x, if they are known.  running: addresses of means, variances and their weight, to which the batch's
        are added, after they are multiplied by `fraction`; or none.
        """
        self._of_batch = True
        statistics = (self.eps, fraction, *self._addresses(), *(running or (0, 0, 0)))
        count, places = _sizes(shape)
        if moments is None and (self.exchange is not None or count > _MOST_WHOLE):
            moments = self.room(*self._parts(count))
            self._launch("moment_parts", False, count, places, x, moments.partial)
        if self.exchange is not None and moments is not None:
            rows = self.exchange.statistics_gpu(self.channels, moments.parts, moments.length, count, moments.partial)
            self._kernel("statistics_of_ranks")(self.channels, self.exchange.size, rows, *statistics)
            moments = Moments(0, _GIVEN, 0)
        self._normalize(shape, x, y, moments or Moments(0, _WHOLE, 0), statistics, followers, joined, True)

    def by_stored(
        self,
        shape: tuple[int, ...],
        x: int,
        y: int,
        followers: Followers = ALONE,
        joined: Joined = NOT_JOINED,
        stored: Sequence[int] = (),
        kept: bool = True,
    ) -> None:
        """Write y, with the statistics at the addresses `stored`, of means, variances and their weight.

        stored: if empty, `mean` and `deviation` are used.  kept: whether x is kept.
        """
        self._of_batch = False
        statistics = (self.eps, 0.0, *self._addresses(), *(stored or (0, 0, 0)))
        self._normalize(shape, x, y, Moments(0, _STORED if stored else _GIVEN, 0), statistics, followers, joined, kept)

    def normalized(self, target: Blob) -> None:
        """Write the normalized values of the last forward pass, which has kept x."""
        target.reshape(self.x.shape)
        statistics = (self.eps, 0.0, *self._addresses(), 0, 0, 0)
        x, y = self.x.gpu_data(), target.mutable_gpu_data()
        self._normalize(self.x.shape, x, y, Moments(0, _GIVEN, 0), statistics, ALONE, NOT_JOINED, False)

    def copy_to(self, other: Normalizer) -> None:
        """Leave in another Normalizer what the last forward pass has kept here."""
        other._of_batch = self._of_batch
        for name in ("x", "mean", "deviation"):
            target = getattr(other, name)
            target.reshape(getattr(self, name).shape)
            GPU.keep(getattr(self, name), target)

    def _normalize(
        self,
        shape: tuple[int, ...],
        x: int,
        y: int,
        moments: Moments,
        statistics: tuple,
        followers: Followers,
        joined: Joined,
        kept: bool,
    ) -> None:
        copy = self.values(shape) if kept else 0
        count, places = _sizes(shape)
        ends = (x, joined.factor, joined.other_factor, joined.other, copy if copy != x else 0, joined.inner, y)
        whole, source = moments.parts == _WHOLE, (moments.parts, moments.length, moments.partial)
        self._launch("normalize", whole, count, places, *source, *statistics, *followers, *ends)

    # -- backward ------------------------------------------------------------------------------------------------------

    def backward(
        self, g: Gradients, followers: Followers = ALONE, factors: tuple[float, float] = (1.0, 0.0), shape: Any = None
    ) -> None:
        """Compute the gradients of the last forward pass.

        factors: those of a sum.  shape: of x, if it was not kept; then the statistics were stored ones, and neither
        gradients of a Scale nor those of a sum can be computed.
        """
        count, places = _sizes(shape or self.x.shape)
        of_batch = self._of_batch and shape is None
        kept = (g.dy if shape else self.x.gpu_data(), self.mean.gpu_data(), self.deviation.gpu_data())
        source = (g.dy, g.second, g.top, *kept, *followers, *factors, g.through, g.beside)
        parts, partial, means, db, ds = _GIVEN, 0, 0, g.db, g.ds
        if g.through or g.beside or db or ds or (g.dx and of_batch):
            if self.exchange is None and count <= _MOST_WHOLE:
                parts = _WHOLE
            else:
                partial, parts, _ = self.room(*self._parts(count))
                self._launch("gradient_parts", False, count, places, *source, partial)
                if g.through:  # it has what the sums were made of
                    source = (g.through, 0, 0, *kept, *followers[:2], False, 0.0, *factors, 0, 0)
        if self.exchange is not None and parts > 0:
            means = self.means.mutable_gpu_data() if g.dx else 0
            self.exchange.gradients_gpu(self.channels, parts, count, partial, db, ds, means)
            parts, db, ds = _GIVEN, 0, 0
        if parts != _GIVEN or g.inner or g.dx:
            sums = (parts, partial, means, of_batch)
            self._launch("gradients", parts == _WHOLE, count, places, *sums, *source, db, ds, g.inner, g.dx)

    # -- launching -----------------------------------------------------------------------------------------------------

    def _addresses(self) -> list[int]:
        return [blob.mutable_gpu_data() for blob in (self.mean, self.deviation, self.variance)]

    def _parts(self, count: int) -> tuple[int, int]:
        """Return in how many parts blocks work on a channel, and how many values each but the last has."""
        wanted = -(-_BLOCKS * context.current().multiprocessors // max(1, self.channels))
        parts = max(1, min(wanted, count // _PART))
        length = -(-count // parts // _PART) * _PART
        return -(-count // length), length

    def _kernel(self, name: str) -> Kernel:
        return kernel("batch_norm", name, self.dtype)

    def _launch(self, name: str, whole: bool, count: int, places: int, *arguments: Any) -> None:
        """Launch with a block for each channel, if it works on the `whole` of it, or for each of its parts."""
        if count:
            parts, length = (1, count) if whole else self._parts(count)
            threads = _MOST_THREADS if whole and count > 4 * _PART else _THREADS
            self._kernel(name).launch((self.channels, parts), threads, self.channels, places, count, length, *arguments)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of values in a channel of (N, C, ...), and in a channel of one sample."""
    places = math.prod(shape[2:])
    return shape[0] * places, places
