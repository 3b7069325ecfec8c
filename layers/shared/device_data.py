"""Batches of data layers on the GPU, from a data set in device memory or streamed through pinned memory."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import numpy as np

from minicaffe.errors import DataError

log = logging.getLogger("minicaffe.data")


def device_source(layer: Any, labelled: bool) -> ResidentSource | StreamedSource | None:
    """Return the fastest source for a data layer's images; None if only the host can transform them.

    The device transforms images of bytes that all have one size, without resize_param, noise_param and boxes.
    """
    from minicaffe.cuda import transform

    if layer.transformer.on_host_only:
        return None
    if hasattr(layer.reader, "load_all"):
        loaded = layer.reader.load_all(limit=transform.room())
        if loaded is not None:
            images, labels, keys = loaded
            log.info("%s layer '%s': %d images stay on the GPU", layer.type, layer.name, len(images))
            return ResidentSource(layer, images, labels, keys, labelled)
    before = layer.position
    batch = layer.next_batch()
    if isinstance(batch.images, np.ndarray) and batch.images.dtype == np.uint8:
        log.info("%s layer '%s': batches stream to the GPU", layer.type, layer.name)
        return StreamedSource(layer, batch, before)
    layer.go_back(before)
    return None


class ResidentSource:
    """A data set in device memory: a batch takes one kernel."""

    ready = True  #: whether there is another batch

    def __init__(self, layer: Any, images: np.ndarray, labels: np.ndarray, keys: list[bytes], labelled: bool) -> None:
        from minicaffe.cuda.transform import DeviceBatches

        self._keys, self._count = keys, layer.reader.batch_size
        self._start = layer.position
        self._batches = DeviceBatches(images, labels if labelled else None, layer.transformer, layer.dtype)
        key = self._start["key"]
        self._batches.position = (keys.index(key.encode("latin-1")) + 1) % len(keys) if key is not None else 0
        self._used = False

    def next_batch(self, data: int, labels: int) -> None:
        self._used = True
        self._batches.next_batch(self._count, data, labels)

    @property
    def position(self) -> dict:
        """The reader's position to continue from: the key of the last record used."""
        if not self._used:
            return self._start
        return {"key": self._keys[self._batches.position - 1].decode("latin-1")}


class StreamedSource:
    """A data set that is read batch by batch; the next batch is uploaded while a step computes.

    `ready` becomes False before a batch whose images are not bytes of the first batch's size.
    """

    def __init__(self, layer: Any, first: Any, before: dict) -> None:
        from minicaffe.cuda.transform import StagedBatches

        self._count, self._shape, labelled = len(first.images), first.images.shape, first.labels is not None
        self._batches = StagedBatches(first.images.shape, labelled, layer.transformer, layer.dtype)
        # a weak reference, so that layer, source and pinned memory are freed together, in the layer's thread
        self._read = weakref.WeakMethod(layer.next_batch)
        self.position = before  #: the reader's position after the last batch that was used
        self._send(first)

    def next_batch(self, data: int, labels: int) -> None:
        from minicaffe.cuda import graph

        if not graph.capturing():
            self._go_on()
        graph.before_replay(self._go_on)
        self._batches.next_batch(self._count, data, labels)

    def _go_on(self) -> None:
        """Use the staged batch and start uploading the next."""
        if not self.ready:  # only in a replay: other steps check `ready` first
            raise DataError("images of different sizes cannot feed a captured step: resize them to one size")
        self.position = self._waiting.position
        read = self._read()
        assert read is not None  # the layer is running
        self._send(read())

    def _send(self, batch: Any) -> None:
        self._waiting = batch
        images = batch.images
        self.ready = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == self._shape
        if self.ready:
            self._batches.put(images, batch.labels)
