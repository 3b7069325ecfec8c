"""The data layers of a solver's nets, with the records of their sources, and where their labels are class labels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minicaffe.checks.data.records import Records, read_records
from minicaffe.checks.subject import PhaseNet, Subject
from minicaffe.core.flow import Value
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError
from minicaffe.philox import Stream

#: Layers whose bottom 1 holds class labels, and the field of their parameters that has the axis of the classes, if any.
CLASS_LAYERS = {
    "SoftmaxWithLoss": "softmax_param", "InfogainLoss": "infogain_loss_param", "Accuracy": "accuracy_param",
    "MultinomialLogisticLoss": "", "HingeLoss": "",
}  # fmt: skip
#: Layers whose top has the channels of bottom 0.
_KEEP_CHANNELS = {
    "ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "BNLL", "Power", "AbsVal", "Exp", "Log", "Swish", "Clip", "ReLU6",
    "Dropout", "BatchNorm", "BN", "Scale", "Bias", "Softmax", "LRN", "MVN", "Pooling", "Eltwise", "Crop", "Interp",
    "Split",
}  # fmt: skip
_KEEP_LABELS = {"Split", "Flatten", "Reshape"}
_SOURCES = {"Data", "ImageData", "HDF5Data", "WindowData"}
_BATCH_FIELDS = {"Data": "data_param", "ImageData": "image_data_param", "HDF5Data": "hdf5_data_param",
                 "WindowData": "window_data_param"}  # fmt: skip


@dataclass(frozen=True)
class ClassUse:
    """A layer that reads labels of a data layer as classes.

    layer: its LayerParameter.  top: index of the data layer's top.  columns: which of its axis 1; None: all.
    classes: number of classes, 0 to classes - 1; None if it is not known without building the net.
    ignored: its ignore_label, or None.
    """

    layer: Any
    top: int
    columns: tuple[int, int] | None
    classes: int | None
    ignored: int | None


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
        return getattr(self.param, _BATCH_FIELDS[self.param.type])

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
        try:
            return BatchTransformer(self.param.transform_param, self.is_train, Stream(0))
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
    """The data sets of a solver: what the checks of the data stage look at.

    layers: the data layers of all nets that read files; those of the train net come first.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.layers = [
            DataLayer(net, index, param, list(_class_uses(net, i)))
            for index, net in enumerate((subject.train, *subject.tests))
            for i, param in enumerate(net.param.layer)
            if param.type in _SOURCES
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


# -- which labels are classes ------------------------------------------------------------------------------------------


def _class_uses(net: PhaseNet, data: int) -> Iterator[ClassUse]:
    """Yield the layers of a net that read a top of layer `data` as class labels."""
    for i, layer in enumerate(net.param.layer):
        if layer.type not in CLASS_LAYERS or len(layer.bottom) < 2:
            continue
        found = _label_source(net, net.flow.sources[i][1])
        if found is not None and found[0].layer == data:
            param = layer.accuracy_param if layer.type == "Accuracy" else layer.loss_param
            ignored = param.ignore_label if param.HasField("ignore_label") else None
            yield ClassUse(layer, found[0].top, found[1], _classes(net, i), ignored)


def _label_source(net: PhaseNet, value: Value | None) -> tuple[Value, tuple[int, int] | None] | None:
    """Return the value from which a label comes, and which columns of it; None if it is computed."""
    columns = None
    while value is not None:
        layer, sources = net.param.layer[value.layer], net.flow.sources[value.layer]
        if layer.type == "Slice" and columns is None and layer.slice_param.axis == 1 and layer.slice_param.slice_point:
            points = [0, *layer.slice_param.slice_point, 1 << 31]
            columns = points[value.top], points[value.top + 1]
        elif layer.type not in _KEEP_LABELS:
            return (value, columns) if layer.type in _SOURCES else None
        value = sources[0]
    return None


def _classes(net: PhaseNet, i: int) -> int | None:
    """Return the number of classes of a layer that reads scores: num_output of the layer that makes them, or None."""
    layer = net.param.layer[i]
    name = CLASS_LAYERS[layer.type]
    axis = getattr(layer, name).axis if name else 1
    for j in net.flow.before(i):
        maker = net.param.layer[j]
        if maker.type == "InnerProduct":
            return maker.inner_product_param.num_output if maker.inner_product_param.axis == axis else None
        if maker.type in ("Convolution", "Deconvolution"):
            return maker.convolution_param.num_output if axis == maker.convolution_param.axis == 1 else None
        if maker.type not in _KEEP_CHANNELS:
            return None
    return None
