"""Batches of preprocessed images, read ahead of the net.

One thread collects the items of a batch and distributes them over workers, which read, decode, resize and transform
them.  Batches come in the order of the items, whatever the number of threads.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.data.prefetch import Prefetcher
from minicaffe.data.workers import Each, Workers
from minicaffe.errors import DataError
from minicaffe.inference.inputs import Item, Preparation

_AHEAD = 2  # batches that wait for the net


class Batch(NamedTuple):
    """A part of the input of a net.

    problems: a sentence for each item that could not be read and has no row.
    began: when its first item was collected, on the clock of `time.perf_counter`.
    """

    names: list[str]
    labels: list[int | None]
    images: np.ndarray  #: (N, ...) float32
    problems: list[str]
    began: float


class Stream:
    """An iterator over batches; `close` ends its threads.

    items: what to read.  preparation: what becomes of an image.  size: images in a batch; the last may have fewer.
    skip_bad: whether items that cannot be read are left out of their batch; False (default): they raise DataError, in
        the order of the items.
    threads: that read and decode; 0 (default): one for each core.
    """

    def __init__(
        self, items: Iterable[Item], preparation: Preparation, size: int, skip_bad: bool = False, threads: int = 0
    ) -> None:
        self._workers = Workers(threads)
        reader = _Reader(iter(items), preparation, size, skip_bad, self._workers.each)
        self._batches = Prefetcher(reader, _AHEAD)

    def __iter__(self) -> Iterator[Batch]:
        while (batch := self._batches.get()) is not None:
            yield batch

    def close(self) -> None:
        """End the threads and drop the batches that were read ahead."""
        self._batches.close()
        self._workers.close()


class _Reader:
    """Returns one batch after the other, then None."""

    def __init__(self, items: Iterator[Item], preparation: Preparation, size: int, skip_bad: bool, each: Each) -> None:
        self._items, self._preparation, self._size = items, preparation, size
        self._skip_bad, self._each = skip_bad, each

    def __call__(self) -> Batch | None:
        began = time.perf_counter()
        items = list(itertools.islice(self._items, self._size))
        if not items:
            return None
        images = np.empty((len(items), *self._preparation.shape), np.float32)
        problems: dict[int, str] = {}

        def load(index: int) -> None:
            item = items[index]
            try:
                self._preparation.write(item.load(self._preparation), images[index], item.name)
            except DataError as error:
                if not self._skip_bad:
                    raise
                problems[index] = str(error)

        self._each(load, len(items))
        if problems:
            rows = [index for index in range(len(items)) if index not in problems]
            images, items = images[rows], [items[index] for index in rows]
        sentences = [problems[index] for index in sorted(problems)]
        return Batch([item.name for item in items], [item.label for item in items], images, sentences, began)
