"""Orders that need no memory: the n-th shuffle of a data set follows from a seed and n alone."""

from __future__ import annotations

import numpy as np

from minicaffe.random import Stream


def shuffled(seed: int, number: int, count: int) -> np.ndarray:
    """The indices 0 .. count - 1 in the order of shuffle `number` (0, 1, ...) of this seed."""
    return Stream(seed, number).generator().permutation(count)


def draw_seed(stream: Stream) -> int:
    """A seed for `shuffled` from a layer's own stream."""
    return int(stream.uniform_u32(1)[0])
