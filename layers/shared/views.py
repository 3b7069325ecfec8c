"""The same numbers under another shape, and in parts.

Sizes are computed, as -1 is ambiguous when an axis has length 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.core.layer import Layer

_PART = 1 << 17  #: elements, 512 KB of float32


def by_channel(values: np.ndarray) -> np.ndarray:
    """Reshape (N, C, ...) to (N, C, places)."""
    return values.reshape(*values.shape[:2], math.prod(values.shape[2:]))


def truncated(values: np.ndarray, dtype: np.typing.DTypeLike = np.int32) -> np.ndarray:
    """Return values as integers, truncated as in C; what is no number of that range, as nan, becomes some integer."""
    with np.errstate(invalid="ignore"):
        return values.astype(dtype)


def channel_products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of x * y for each channel of arrays (N, C, places), without an array of the products."""
    return np.einsum("ncs,ncs->nc", x, y).sum(0)


def parts(x: np.ndarray) -> Iterator[slice]:
    """Slices of the samples of x, about `_PART` elements each, so that what is done to a part finds it in the cache."""
    step = max(1, _PART // max(1, x[:1].size))
    return (slice(i, i + step) for i in range(0, len(x), step))


def at(values: np.ndarray, *index: Any) -> np.ndarray:
    """`values[index]`, for indices of which some are unpacked: `at(x, ..., *slices)`."""
    return values[index]


class SharesMemory(Layer):
    """Base of layers whose top is their bottom under another shape: nothing is computed, data and diff are shared."""

    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()
    replayable = True

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def forward_cpu(self, bottom, top):
        pass

    def backward_cpu(self, top, propagate_down, bottom):
        pass

    forward_gpu, backward_gpu = forward_cpu, backward_cpu
