"""The data layers of a solver's nets, with the records of their sources."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minicaffe.checks.data.classes import SOURCES, ClassUse, class_uses
from minicaffe.checks.data.records import Records, read_records
from minicaffe.checks.subject import PhaseNet, Subject
from minicaffe.data.annotated_transformer import AnnotatedTransformer
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.philox import Stream


class Labels(NamedTuple):
    """The labels of a data set: each value once, in order, and how many records or positions have it."""

    values: np.ndarray
    counts: np.ndarray

    @property
    def are_whole(self) -> np.ndarray:
        """Whether each value is a whole number; nan and infinity are not."""
        with np.errstate(invalid="ignore"):
            return np.isfinite(self.values) & (self.values == np.floor(self.values))

    @property
    def are_classes(self) -> bool:
        """Whether all values are whole numbers from 0 on, not too large to count."""
        return bool(self.are_whole.all() and self.values[0] >= 0 and self.values[-1] < 1 << 20)


@dataclass
class DataLayer:
    """A data layer that reads files.

    net: the net that has it.  index: 0 for the train net, 1 for the first test net, and so on.  param: LayerParameter.
    uses: the layers that read its labels as classes.  error: why its source cannot be read; "" if it can.
    """

    net: PhaseNet
    index: int
    param: Any
    uses: list[ClassUse] = field(default_factory=list)
    error: str = ""

    @property
    def where(self) -> str:
        """The layer and the phase, for findings."""
        number = f" net {self.index - 1}" if self.index > 1 else ""
        return f"layer '{self.param.name}' in {self.net.phase}{number}"

    @property
    def is_train(self) -> bool:
        """Whether it is a layer of the train net."""
        return self.index == 0

    @property
    def fields(self) -> Any:
        """The message with source, batch_size and shuffle."""
        return getattr(self.param, SOURCES[self.param.type])

    @property
    def source(self) -> str:
        """Path of the source."""
        return self.fields.source

    @property
    def batch_size(self) -> int:
        """Records of a batch."""
        return self.fields.batch_size

    @property
    def shuffles(self) -> bool:
        """Whether the records are read in random order."""
        return self.param.type == "WindowData" or self.fields.shuffle

    @functools.cached_property
    def records(self) -> Records:
        """The records of the source; without any if it cannot be read, see `error`."""
        try:
            found = read_records(self.param, {use.top for use in self.uses})
        except DataError as error:
            self.error, found = str(error), None
        return found or Records(whole=False, ordered=False)

    @functools.cached_property
    def transformer(self) -> BatchTransformer | None:
        """The transformation of the images; None for HDF5Data, and if it cannot be made, see `error`."""
        if self.param.type in ("HDF5Data", "WindowData"):
            return None
        common, rng = self.param.transform_param, Stream(0)
        try:
            if self.param.type == "AnnotatedData":
                return AnnotatedTransformer(common, self.param.annotated_data_param, self.is_train, rng)
            return BatchTransformer(common, self.is_train, rng)
        except DataError as error:
            self.error = self.error or str(error)
            return None

    def read(self) -> None:
        """Read the source and make the transformation; `error` has the reason if one of them cannot be done."""
        _ = self.records, self.transformer

    def runs(self, use: ClassUse) -> list[np.ndarray]:
        """Return the labels that a layer reads: runs of consecutive records, (n, ...) each, ignored ones included."""
        runs = [np.asarray(run) for run in self.records.labels.get(use.top, [])]
        if use.columns is not None:
            start, stop = use.columns
            runs = [run[:, start:stop] for run in runs if run.ndim > 1]
        return runs

    def labels(self, use: ClassUse) -> Labels:
        """Return the labels that a layer reads and does not ignore."""
        found = [np.unique(run, return_counts=True) for run in self.runs(use)]
        every = np.concatenate([np.empty(0), *(values for values, _ in found)])
        counts = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in found)])
        values, index = np.unique(every, return_inverse=True)
        counts = np.bincount(index.ravel(), counts, len(values))
        kept = np.ones(len(values), bool) if use.ignored is None else values != use.ignored
        return Labels(values[kept], counts[kept])

    @functools.cached_property
    def label_sets(self) -> list[tuple[ClassUse, Labels]]:
        """Each set of labels that is read, with the use that has the fewest classes; those without labels left out."""
        uses: dict[tuple, ClassUse] = {}
        for use in sorted(self.uses, key=lambda use: (use.classes is None, use.classes)):
            uses.setdefault((use.top, use.columns, use.ignored), use)
        found = [(use, self.labels(use)) for use in uses.values()]
        return [(use, labels) for use, labels in found if labels.values.size]


class DataSets:
    """The data sets of a solver: the subject of the checks of the data stage.

    layers: the data layers of all nets that read files; those of the train net come first.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.layers = [
            DataLayer(net, index, param, list(class_uses(net, i)))
            for index, net in enumerate((subject.train, *subject.tests))
            for i, param in enumerate(net.param.layer)
            if param.type in SOURCES
        ]
        self._share_records()

    def _share_records(self) -> None:
        """Read sources that several layers read in the same way only once."""
        known: dict[tuple, DataLayer] = {}
        for layer in self.layers:
            color = (layer.param.transform_param.force_color, layer.param.transform_param.force_gray)
            tops = sorted({use.top for use in layer.uses})
            key = (layer.param.type, _without_batch(layer.fields), color, str(layer.param.top), str(tops))
            first = known.setdefault(key, layer)
            if first is not layer:
                layer.records, layer.error = first.records, first.error

    @property
    def train(self) -> list[DataLayer]:
        """The data layers of the train net."""
        return [layer for layer in self.layers if layer.is_train]

    @property
    def tests(self) -> list[DataLayer]:
        """The data layers of the test nets."""
        return [layer for layer in self.layers if not layer.is_train]

    def pairs(self) -> Iterator[tuple[DataLayer, DataLayer]]:
        """Yield the data layers of the train net, each with those of the test nets that have a top of the same name."""
        for train in self.train:
            for test in self.tests:
                if set(train.param.top) & set(test.param.top):
                    yield train, test


def _without_batch(fields: Any) -> bytes:
    """Return what decides which records are read: the message without batch_size, order and threads."""
    copy = type(fields)()
    copy.CopyFrom(fields)
    for name in ("batch_size", "shuffle", "rand_skip", "threads", "prefetch"):
        if name in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    return copy.SerializeToString()
