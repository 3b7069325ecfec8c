"""The batches of a data layer, read, decoded and transformed ahead of the net.

One thread reads the batches in order, and a second transforms the next one.  Both distribute the images of a batch over
the same workers.  The order of records and all random numbers are settled before that, so batches do not depend on the
number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minicaffe.data.prefetch import Prefetcher
from minicaffe.data.reader import Batch, BatchReader
from minicaffe.data.transformer import BatchTransformer
from minicaffe.data.workers import Each, Workers
from minicaffe.errors import DataError
from minicaffe.philox import Stream


class Transformed(NamedTuple):
    """A batch as the net uses it."""

    tops: tuple[np.ndarray, ...]  #: images (N, C, H, W) in the dtype of the tops, labels, and what else the layer has
    position: dict  #: the reader's position after it
    before: dict  #: the state of the random stream before its images were drawn for
    after: dict  #: and after that
    error: DataError | None  #: the reason why the images could not be transformed, if they could not


class Feed:
    """Batches of a reader, from the reader's present position on; its threads end at `close`, or when it is collected.

    It is the only owner of its threads.  A forked process does not have them: there `left_behind` is True, and a new
    Feed must be created.

    reader: not to be used until the Feed is closed.  depth: batches that are read ahead.
    threads: that decode and transform; 0: one for each core.
    """

    def __init__(self, reader: BatchReader, depth: int, threads: int) -> None:
        self._workers = Workers(threads)
        self._batches = Prefetcher(functools.partial(reader.read, self._workers.each), depth)
        self._transformed: Prefetcher[Transformed] | None = None

    def next_batch(self) -> Batch:
        """Return the next batch as it was read; DataError when it cannot be read."""
        return self._batches.get()

    def next_transformed(self, transformer: BatchTransformer, dtype: np.dtype) -> Transformed:
        """Return the next batch, transformed; DataError when it cannot be read.

        The first call starts to transform ahead: `next_batch` is not to be called afterwards.
        transformer: the random numbers are drawn from a copy of its stream, taken at the first call.
        """
        if self._transformed is None:
            stage = _Stage(self._batches.get, transformer, dtype, self._workers.each)
            self._transformed = Prefetcher(stage, depth=1)
        return self._transformed.get()

    @property
    def transforms(self) -> bool:
        """Whether batches are transformed ahead."""
        return self._transformed is not None

    @property
    def left_behind(self) -> bool:
        """Whether the threads run in the parent process, which this one was forked from."""
        return self._batches.left_behind

    def close(self) -> None:
        """End the threads and drop the batches that were read ahead."""
        self._batches.close()  # first: the second thread may be waiting for a batch
        if self._transformed is not None:
            self._transformed.close()
        self._workers.close()


class _Stage:
    """Transformation of one batch after the other, with a copy of the transformer's stream."""

    def __init__(self, read: Callable[[], Batch], transformer: BatchTransformer, dtype: np.dtype, each: Each) -> None:
        self._read, self._dtype, self._each = read, dtype, each
        self._stream = Stream(0)
        self._stream.set_state(transformer.rng.get_state())
        self._transformer = transformer.drawing_from(self._stream)

    def __call__(self) -> Transformed:
        batch, before, error = self._read(), self._stream.get_state(), None
        tops: tuple[np.ndarray, ...] = ()
        try:
            tops = self._transformer.apply(batch.images, batch.labels, self._dtype, self._each, batch.name)
        except DataError as raised:  # the net may go on with the batch after this one
            error = raised
        return Transformed(tops, batch.position, before, self._stream.get_state(), error)
