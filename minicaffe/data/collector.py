"""The images and labels of one batch, while it is read."""

from __future__ import annotations

import numpy as np

from minicaffe.data.transformer import Images, Labels


class Collector:
    """One batch: an array if all its images have one shape and type, otherwise a list.

    Different images may be put by different threads.

    count: the batch size.
    shape, dtype: of the images, (C, H, W), as they are expected.  Such images are copied into the array as they are
        put; others are copied once more if all of them turn out to have one shape and type.
    """

    def __init__(self, count: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape, dtype
        self._stacked = np.empty((count, *shape), dtype)
        self._others: dict[int, np.ndarray] = {}
        self._labels: list[float | np.ndarray] = [0.0] * count

    def put(self, index: int, image: np.ndarray, label: float | np.ndarray) -> None:
        """Store a copy of the image, (C, H, W), and its label, a number or rows, as number `index` of the batch."""
        if image.shape == self._shape and image.dtype == self._dtype:
            self._stacked[index] = image
        else:
            self._others[index] = np.array(image, order="C")
        self._labels[index] = label

    @property
    def labels(self) -> Labels:
        """The labels, when all are put."""
        rows = [label for label in self._labels if isinstance(label, np.ndarray)]
        return rows or np.array(self._labels, np.float32)

    @property
    def images(self) -> Images:
        """The images, when all are put."""
        if not self._others:
            return self._stacked
        images = [self._others.get(index, image) for index, image in enumerate(self._stacked)]
        kinds = {(image.shape, image.dtype) for image in images}
        return np.stack(images) if len(kinds) == 1 else images
