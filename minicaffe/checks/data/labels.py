"""Checks of class labels: their range, which classes occur, and whether TRAIN and TEST agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.checks.data.sets import ClassUse, DataLayer, DataSets, Labels
from minicaffe.checks.finding import Found, finds
from minicaffe.errors import listed

_FAR = 0.1  #: total variation distance of frequencies that is reported; 1 is that of sets without a common label


# -- one data set ------------------------------------------------------------------------------------------------------


@finds("data", "labels-not-whole", "error")
def labels_not_whole(sets: DataSets) -> Iterator[Found]:
    """Find class labels that are not whole numbers."""
    for layer, use, labels in _label_sets(sets):
        wrong = labels.values[~_whole(labels)]
        if wrong.size:
            yield (
                layer.where,
                f"the label {wrong[0]:g} is not a whole number, but layer '{use.layer.name}' ({use.layer.type}) reads "
                f"classes and cuts it off to {_cut(wrong[0])}: store classes from 0, or use EuclideanLoss for values",
            )


@finds("data", "labels-from-one", "error")
def labels_from_one(sets: DataSets) -> Iterator[Found]:
    """Find labels 1 to C for C classes."""
    for layer, use, low, high in _ranges(sets):
        if _from_one(use, low, high):
            yield (
                layer.where,
                f"the labels are {low} to {high}, but {use.classes} outputs are the classes 0 to {high - 1}: "
                f"subtract 1 from the labels, or write num_output: {high + 1} (class 0 stays unused)",
            )


@finds("data", "labels-out-of-range", "error")
def labels_out_of_range(sets: DataSets) -> Iterator[Found]:
    """Find labels that have no output: num_output is too small, or labels are negative."""
    for layer, use, low, high in _ranges(sets):
        if use.classes is None or _from_one(use, low, high):
            continue
        if low < 0:
            yield (
                layer.where,
                f"the labels are {low} to {high}, but classes start at 0: set loss_param {{ ignore_label: {low} }} if "
                f"records with this label shall not count, or correct the labels",
            )
        elif high >= use.classes:
            yield (
                layer.where,
                f"the labels are {low} to {high}, but the {use.classes} outputs that layer '{use.layer.name}' reads "
                f"are the classes 0 to {use.classes - 1}: write num_output: {high + 1}",
            )


@finds("data", "unused-outputs", "warning")
def unused_outputs(sets: DataSets) -> Iterator[Found]:
    """Find more outputs than classes, in a net that learns from scratch."""
    if not sets.subject.weights:
        yield from _unused(sets, "set num_output to the number of classes")


@finds("data", "unused-outputs-of-weights", "info")
def unused_outputs_of_weights(sets: DataSets) -> Iterator[Found]:
    """Find more outputs than classes, in a net that starts from weights."""
    if sets.subject.weights:
        yield from _unused(
            sets, "to learn other classes than those of the weights, rename the layer and set num_output"
        )


@finds("data", "class-missing", "info")
def class_missing(sets: DataSets) -> Iterator[Found]:
    """Find classes below the largest label without any record."""
    for layer, use, labels in _train_labels(sets):
        high = int(labels.values[-1])
        missing = sorted(set(range(high)) - {*labels.values.tolist(), use.ignored})
        if missing and layer.records.whole and use.classes is not None and high < use.classes:
            yield (
                layer.where,
                f"no record has the label {listed(map(str, missing))}: the net can never learn to predict it; this is "
                "right only if the number is unused on purpose",
            )


# -- TRAIN and TEST ----------------------------------------------------------------------------------------------------


@finds("data", "test-labels-unknown", "warning")
def test_labels_unknown(sets: DataSets) -> Iterator[Found]:
    """Find labels of a test set that do not occur in the training set."""
    for pair in _compared(sets):
        unknown = sorted(pair.test_labels - pair.train_labels)
        if unknown and pair.train.records.whole:
            yield (
                pair.test.where,
                f"it has the label {listed(map(str, unknown))}, which no record of {pair.train.where} has: these are "
                "never predicted; make both sets from one list of classes",
            )


@finds("data", "test-lacks-labels", "info")
def test_lacks_labels(sets: DataSets) -> Iterator[Found]:
    """Find labels of the training set that do not occur in a test set."""
    for pair in _compared(sets):
        missing = sorted(pair.train_labels - pair.test_labels)
        if missing and pair.test.records.whole:
            yield (
                pair.test.where,
                f"no record has the label {listed(map(str, missing))}, which records of {pair.train.where} have: the "
                "accuracy does not include these classes",
            )


@finds("data", "labels-permuted", "warning")
def labels_permuted(sets: DataSets) -> Iterator[Found]:
    """Find two sets whose classes are as frequent as each other's, but under other numbers."""
    for pair in _compared(sets):
        if pair.differs and pair.is_permuted:
            first = int(np.argmax(np.abs(pair.in_train - pair.in_test)))
            yield (
                pair.test.where,
                f"its classes are as frequent as those of {pair.train.where}, but under other numbers (label {first}: "
                f"{pair.in_train[first]:.1%} in TRAIN, {pair.in_test[first]:.1%} in TEST): the accuracy stays at "
                "chance if the two lists number the classes differently; make both from one list of classes",
            )


@finds("data", "frequencies-differ", "info")
def frequencies_differ(sets: DataSets) -> Iterator[Found]:
    """Find two sets with the same labels in other proportions."""
    for pair in _compared(sets):
        if pair.differs and not pair.is_permuted and pair.train_labels == pair.test_labels:
            first = int(np.argmax(np.abs(pair.in_train - pair.in_test)))
            yield (
                pair.test.where,
                f"label {first} is {pair.in_train[first]:.1%} of {pair.train.where} and {pair.in_test[first]:.1%} of "
                "this set: the accuracy is that of other proportions of classes",
            )


class _Pair(NamedTuple):
    """The labels of a training set and of a test set: the layers, and the frequencies of the labels 0, 1, ..."""

    train: DataLayer
    test: DataLayer
    counts_in_train: np.ndarray
    counts_in_test: np.ndarray

    @property
    def in_train(self) -> np.ndarray:
        """Frequency of each label in the training set."""
        return self.counts_in_train / self.counts_in_train.sum()

    @property
    def in_test(self) -> np.ndarray:
        """Frequency of each label in the test set."""
        return self.counts_in_test / self.counts_in_test.sum()

    @property
    def train_labels(self) -> set[int]:
        """The labels of the training set."""
        return set(np.flatnonzero(self.counts_in_train).tolist())

    @property
    def test_labels(self) -> set[int]:
        """The labels of the test set."""
        return set(np.flatnonzero(self.counts_in_test).tolist())

    @property
    def differs(self) -> bool:
        """Whether the frequencies differ by more than chance."""
        return _distance(self.in_train, self.in_test) > self._threshold

    @property
    def is_permuted(self) -> bool:
        """Whether the frequencies agree once both are sorted."""
        return _distance(np.sort(self.in_train), np.sort(self.in_test)) < self._threshold / 2

    @property
    def _threshold(self) -> float:
        """The distance that is reported: _FAR, and three times what two random samples of one set differ by."""
        share = (self.counts_in_train + self.counts_in_test) / (self.counts_in_train + self.counts_in_test).sum()
        sizes = 1 / self.counts_in_train.sum() + 1 / self.counts_in_test.sum()
        return _FAR + 3 * 0.4 * float(np.sqrt(share * (1 - share) * sizes).sum())


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation distance of two distributions."""
    return float(np.abs(first - second).sum() / 2)


def _compared(sets: DataSets) -> Iterator[_Pair]:
    """Yield the labels of training sets and test sets that have tops of the same names and another source."""
    for train, test in sets.pairs():
        others = {(test.param.top[use.top], use.columns): labels for use, labels in test.label_sets}
        for use, labels in train.label_sets:
            theirs = others.get((train.param.top[use.top], use.columns))
            if theirs is None or train.source == test.source or not _counts(labels, theirs):
                continue
            length = 1 + int(max(labels.values[-1], theirs.values[-1]))
            in_both = [np.bincount(each.values.astype(np.int64), each.counts, length) for each in (labels, theirs)]
            yield _Pair(train, test, *in_both)


def _counts(*labels: Labels) -> bool:
    """Whether labels are classes that can be counted: whole numbers from 0 on, not too large."""
    return all(_whole(each).all() and each.values[0] >= 0 and each.values[-1] < 1 << 20 for each in labels)


# -- helpers -----------------------------------------------------------------------------------------------------------


def _label_sets(sets: DataSets) -> Iterator[tuple[DataLayer, ClassUse, Labels]]:
    for layer in sets.layers:
        for use, labels in layer.label_sets:
            yield layer, use, labels


def _train_labels(sets: DataSets) -> Iterator[tuple[DataLayer, ClassUse, Labels]]:
    """Yield the labels of the train net that can be counted."""
    for layer, use, labels in _label_sets(sets):
        if layer.is_train and _counts(labels):
            yield layer, use, labels


def _ranges(sets: DataSets) -> Iterator[tuple[DataLayer, ClassUse, int, int]]:
    """Yield the least and the largest of the labels, where they are whole numbers."""
    for layer, use, labels in _label_sets(sets):
        if _whole(labels).all():
            yield layer, use, int(labels.values[0]), int(labels.values[-1])


def _from_one(use: ClassUse, low: int, high: int) -> bool:
    return low >= 1 and high == use.classes


def _unused(sets: DataSets, advice: str) -> Iterator[Found]:
    """Yield the data layers of the train net whose labels leave the last outputs unused, in TEST as well."""
    largest = max((int(labels.values[-1]) for _, _, labels in _label_sets(sets) if _counts(labels)), default=0)
    for layer, use, labels in _train_labels(sets):
        if layer.records.whole and use.classes is not None and use.classes > largest + 1:
            low, high = int(labels.values[0]), int(labels.values[-1])
            yield (
                layer.where,
                f"the labels are {low} to {high}, but layer '{use.layer.name}' reads {use.classes} outputs: the last "
                f"{use.classes - high - 1} never occur and take part in the loss; {advice}",
            )


def _whole(labels: Labels) -> np.ndarray:
    """Whether each value is a whole number; nan and infinity are not."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(labels.values) & (labels.values == np.floor(labels.values))


def _cut(value: float) -> str:
    return f"{np.trunc(value):g}" if np.isfinite(value) else "an undefined number"
