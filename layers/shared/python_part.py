"""The base of classes of this package that a Python layer runs in place of those of a well-known project."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer


class PythonPart(Layer):
    """A class with the methods that pycaffe calls: `setup`, `forward`, and `backward`, which has no gradient.

    Its attributes `param_str`, `phase`, `name` and `rng` are those of the Python layer, as for a user's class.
    """

    param_str = ""

    def reshape(self, bottom, top):
        """Nothing: `forward` gives the tops their shapes, which depend on values."""

    def backward(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff = 0

    def position(self) -> dict:
        """Return what a resumed run needs beyond the random stream."""
        return {}

    def seek(self, state: dict) -> None:
        """Restore a position that is part of `state`; SnapshotError for what is none."""

    def check_blobs(self, bottom, top, bottoms: int, tops: tuple[int, ...]) -> None:
        """Raise LayerError unless there are `bottoms` bottoms or more, one of the numbers `tops` of tops, and no blob
        is both.
        """
        if len(bottom) < bottoms or len(top) not in tops:
            raise self.error(
                f"takes {bottoms} bottoms and {' or '.join(map(str, tops))} tops, got {len(bottom)} and {len(top)}"
            )
        if any(blob is each for blob in top for each in bottom):
            raise self.error("cannot work in place: give its tops other names than its bottoms")


def rows(blob: Blob) -> np.ndarray:
    """Return the data of a blob (R, ...) as (R, values)."""
    return blob.data.reshape(blob.shape[0], math.prod(blob.shape[1:]))
