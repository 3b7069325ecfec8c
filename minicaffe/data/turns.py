"""vertical_mirror and random_90_deg_rot of a transform_param, from ducha-aiki's Caffe: images upside down, and turned.

They are the last step, on images (C, H, W) in place, in both phases.
"""

from __future__ import annotations

import numpy as np

from minicaffe.errors import DataError
from minicaffe.philox import Stream


class Turns:
    """The random turns of a TransformationParameter; false if there are none."""

    def __init__(self, param) -> None:
        self._flips, self._quarters = param.vertical_mirror, param.random_90_deg_rot

    def __bool__(self) -> bool:
        return self._flips or self._quarters

    def draw(self, rng: Stream, batch: np.ndarray) -> list[tuple[bool, int]]:
        """Draw of each image of a batch whether it is turned upside down, and by how many quarters clockwise.

        DataError for quarters of images (N, C, H, W) that are not square.
        """
        count, _, height, width = batch.shape
        if self._quarters and height != width:
            raise DataError(
                f"transform_param: random_90_deg_rot needs square images after the crop, got {height}x{width}"
            )
        generator = rng.generator()
        draws = np.zeros((count, 2), int)
        for column, (wanted, most) in enumerate(((self._flips, 2), (self._quarters, 4))):
            if wanted:
                draws[:, column] = generator.integers(most, size=count)
        return [(bool(flip), quarters) for flip, quarters in draws.tolist()]

    @staticmethod
    def turn(image: np.ndarray, flip: bool, quarters: int) -> None:
        """Turn an image (C, H, W) upside down, then by quarters clockwise, in place."""
        image[...] = np.rot90(image[:, ::-1] if flip else image, -quarters, (1, 2)).copy()
