"""A data set that fits on the device: uploaded once as bytes; each batch is gathered and transformed by two kernels.

Position and random numbers live in device memory and move on by themselves, so a captured step (minicaffe.cuda.graph)
takes the next batch each time it is replayed, and takes the one that the processor's path would have taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.cuda import graph, memory
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.random import DeviceStream
from minicaffe.errors import DataError

_RESERVE = 0.5  # of the free memory: a larger data set would leave too little for the net


def fits(nbytes: int) -> bool:
    """Whether a data set of so many bytes may stay on the device."""
    return nbytes <= memory.usage()["free"] * _RESERVE


class DeviceBatches:
    """Batches of a data set on the device, in order, round and round.

    images: uint8 (T, C, H, W); labels: (T,), or None.
    transformer: minicaffe.data.transformer.Transformer, whose crop, mirror, mean, scale and random stream are used.
    dtype: of the tops.
    Raises DataError when the mean or the crop does not fit the images.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray | None, transformer: Any, dtype: Any = np.float32
    ) -> None:
        if images.dtype != np.uint8 or images.ndim != 4:
            raise DataError(f"images for the device must be uint8 (T, C, H, W), got {images.dtype} {images.shape}")
        transformer.check_mean(images.shape[1:])
        self.total, self.channels, self.height, self.width = images.shape
        self.shape = transformer.output_shape(images.shape[1:])
        self.dtype = np.dtype(dtype)
        self.position = 0  #: of the record that the next batch begins with
        self._images = _upload(images)
        self._labels = None if labels is None else _upload(np.asarray(labels, np.float32))
        room = self.height - self.shape[1], self.width - self.shape[2]
        crops = bool(transformer.train and any(room))
        self._room = (*room, crops, bool(transformer.mirror))
        self._draws = DeviceStream(transformer.rng) if crops or transformer.mirror else None
        self._mean, self._mean_kind = self._upload_mean(transformer.mean)
        self._scale = transformer.scale
        self._cursor = DeviceBuffer(8)
        self._on_device = -1  # the position that the device will find at the next batch
        self._cuts: DeviceBuffer | None = None

    def next_batch(self, count: int, top: int, label_top: int = 0) -> None:
        """Write the next `count` images (count, *shape) to the pointer `top`, and their labels to `label_top`."""
        if self._cuts is None or self._cuts.nbytes < 16 * count:
            self._cuts = DeviceBuffer(16 * count)
        if not graph.capturing():
            self._advance(count)
        graph.before_replay(lambda: self._advance(count))
        random = self._draws.draw(3 * count) if self._draws else 0
        labels = self._labels or 0
        self._kernel("plan").launch(
            (1, 1), 256, count, self.total, self._cursor, random, *self._room, self._cuts, labels, label_top
        )  # fmt: skip
        _, out_h, out_w = self.shape
        sizes = (self.channels, self.height, self.width, out_h, out_w)
        n = count * self.channels * out_h * out_w
        self._kernel("transform")(n, *sizes, self._cuts, self._images, self._mean_kind, self._mean, self._scale, top)

    def _advance(self, count: int) -> None:
        """Move the host's position on; the device's follows by itself, unless somebody has set it."""
        if self._on_device != self.position:
            self._cursor.from_host(np.array([self.position], np.uint64))
        self.position = self._on_device = (self.position + count) % self.total

    def _kernel(self, name: str):
        return kernel("transform", name, self.dtype)

    def _upload_mean(self, mean: np.ndarray | None) -> tuple[Any, int]:
        if mean is None:
            return 0, 0
        kind = 1 if mean.size == 1 else 2 if mean.size == len(mean) else 3
        return _upload(mean.astype(self.dtype)), kind


def _upload(array: np.ndarray) -> DeviceBuffer:
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer
