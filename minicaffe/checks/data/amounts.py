"""Checks of how many records there are, in which order, and what can be read of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.checks.data.classes import SOURCES
from minicaffe.checks.data.sets import DataLayer, DataSets
from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import is_recurrent

_FEW = 0.1  #: changes of the label from record to record, as a fraction of those in random order, that are too few


@finds("data", "data-unreadable", "error")
def data_unreadable(sets: DataSets) -> Iterator[Found]:
    """Find sources and mean files that cannot be read."""
    for layer in sets.layers:
        layer.read()
        if layer.error:
            yield layer.where, layer.error


@finds("data", "sorted-by-class", "warning")
def sorted_by_class(sets: DataSets) -> Iterator[Found]:
    """Find training sets that are read class by class."""
    if any(True for _ in sets.subject.train.layers_with(is_recurrent)):
        return  # the records of a sequence follow each other
    batches = max(sets.subject.param.iter_size, 1)
    for layer in sets.train:
        count = layer.records.count
        if layer.shuffles or not layer.records.ordered or (count is not None and batches * layer.batch_size >= count):
            continue
        for use in layer.uses[:1]:
            same, expected, few = _neighbours([run for run in layer.runs(use) if run.ndim == 1 or run[0].size == 1])
            if few:
                yield (
                    layer.where,
                    f"{same:.1%} of the records have the label of the record before, {expected:.1%} would in random "
                    "order: a batch has one class or few, and the loss goes up and down; " + _shuffle_advice(layer),
                )


def _shuffle_advice(layer: DataLayer) -> str:
    field = SOURCES[layer.param.type]
    tool = ", or make the database with convert_imageset --shuffle" if layer.param.type == "Data" else ""
    return f"write {field} {{ shuffle: true }}{tool}"


def _neighbours(runs: list[np.ndarray]) -> tuple[float, float, bool]:
    """Return which share of neighbours have equal labels, and would in random order; whether changes are too few."""
    runs = [run.ravel() for run in runs if len(run) > 1]
    if not runs:
        return 0.0, 0.0, False
    pairs = sum(len(run) - 1 for run in runs)
    changes = sum(int(np.count_nonzero(run[1:] != run[:-1])) for run in runs)
    _, counts = np.unique(np.concatenate(runs), return_counts=True)
    expected = 1 - float(np.square(counts / counts.sum()).sum())
    return 1 - changes / pairs, 1 - expected, expected * pairs >= 20 and changes < _FEW * expected * pairs


@finds("data", "test-iter-too-small", "warning")
def test_iter_too_small(sets: DataSets) -> Iterator[Found]:
    """Find tests that leave out records."""
    for layer, iterations, read, count in _tests(sets):
        if count - read >= layer.batch_size:
            yield (
                layer.where,
                f"test_iter {iterations} x batch_size {layer.batch_size} = {read} of {count} records: a test leaves "
                f"out {count - read} of them, and the next one goes on where it ended, so that tests cannot be "
                f"compared; write test_iter: {-(-count // layer.batch_size)}",
            )


@finds("data", "test-iter-not-exact", "info")
def test_iter_not_exact(sets: DataSets) -> Iterator[Found]:
    """Find tests that read some records twice, or leave out less than a batch."""
    for layer, iterations, read, count in _tests(sets):
        if read != count and count - read < layer.batch_size:
            what = f"{read - count} records count twice" if read > count else f"{count - read} records are left out"
            yield (
                layer.where,
                f"test_iter {iterations} x batch_size {layer.batch_size} = {read}, but there are {count} records: "
                f"{what}; take a batch_size that divides {count} for an exact test",
            )


def _tests(sets: DataSets) -> Iterator[tuple[DataLayer, int, int, int]]:
    """Yield, of test nets: the data layer, test_iter, the number of records that a test reads, and that of all."""
    for layer in sets.tests:
        iterations, count = sets.subject.param.test_iter[layer.index - 1], layer.records.count
        if count and iterations and layer.batch_size > 0:
            yield layer, iterations, iterations * layer.batch_size, count


@finds("data", "batch-larger-than-data", "warning")
def batch_larger_than_data(sets: DataSets) -> Iterator[Found]:
    """Find training batches that have records more than once."""
    for layer in sets.train:
        count = layer.records.count
        if count and layer.batch_size > count:
            yield (
                layer.where,
                f"batch_size is {layer.batch_size}, but there are {count} records: each batch has records more than "
                f"once; write batch_size: {count} or less",
            )


@finds("data", "same-source", "info")
def same_source(sets: DataSets) -> Iterator[Found]:
    """Find test nets that read the training set."""
    for train, test in sets.pairs():
        if train.param.type == test.param.type and train.source == test.source:
            yield (
                test.where,
                f"it reads {test.source}, as {train.where}: this is the accuracy on the training set, which does not "
                "show overfitting",
            )
