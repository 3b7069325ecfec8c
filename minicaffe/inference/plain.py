"""Arrays that are the input of a net as they are: no images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.arrays import same_axes
from minicaffe.data.box_rows import WHOLE
from minicaffe.errors import DataError


class Plain:
    """In the place of a `Preprocessing`, for a net whose input has another number of axes than four.

    shape: of the input, batch first.  name: the input's.
    """

    def __init__(self, shape: Sequence[int], name: str) -> None:
        self.shape, self._name = tuple(shape[1:]), name

    def decode(self, data: bytes, name: str = "encoded image") -> np.ndarray:
        """Raise DataError: an image has no place here."""
        raise DataError(f"{name} is an image, but the net's input '{self._name}' reads {self.shape}: give arrays")

    def read(self, path: str) -> np.ndarray:
        """Raise DataError, as `decode` does."""
        return self.decode(b"", path)

    def resized(self, image: np.ndarray, name: str = "an array") -> np.ndarray:
        """Return the values as they are."""
        return image

    def write(self, image: np.ndarray, out: np.ndarray, name: str = "an array") -> None:
        """Copy the values into `out`, float32; DataError, which starts with `name`, for another shape."""
        if not same_axes(image.shape, out.shape):
            raise DataError(f"{name}: the net's input '{self._name}' reads {out.shape}, got {image.shape}")
        out[...] = image.reshape(out.shape)

    def place(self, height: int, width: int) -> np.ndarray:
        """Return the whole input, as `Preprocessing.place` does."""
        return WHOLE

    def describe(self, stored: bool = True) -> str:
        """Return one line, as `Preprocessing.describe` does."""
        return f"no preprocessing: the arrays are the net's input '{self._name}' as they are"
