"""Checks of whether the class labels of TRAIN and TEST agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.checks.data.sets import DataLayer, DataSets
from minicaffe.checks.finding import Found, finds
from minicaffe.errors import listed

_FAR = 0.1  #: total variation distance of frequencies that is reported; 1 is that of sets without a common label


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
            if theirs is None or train.source == test.source or not (labels.are_classes and theirs.are_classes):
                continue
            length = 1 + int(max(labels.values[-1], theirs.values[-1]))
            in_both = [np.bincount(each.values.astype(np.int64), each.counts, length) for each in (labels, theirs)]
            yield _Pair(train, test, *in_both)
