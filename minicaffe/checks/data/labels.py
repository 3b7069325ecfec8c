"""Checks of class labels: their range, and which classes occur."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.checks.data.sets import ClassUse, DataLayer, DataSets, Labels
from minicaffe.checks.finding import Found, finds
from minicaffe.errors import listed


@finds("data", "labels-not-whole", "error")
def labels_not_whole(sets: DataSets) -> Iterator[Found]:
    """Find class labels that are not whole numbers."""
    for layer, use, labels in _label_sets(sets):
        wrong = labels.values[~labels.are_whole]
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


# -- helpers -----------------------------------------------------------------------------------------------------------


def _label_sets(sets: DataSets) -> Iterator[tuple[DataLayer, ClassUse, Labels]]:
    for layer in sets.layers:
        for use, labels in layer.label_sets:
            yield layer, use, labels


def _train_labels(sets: DataSets) -> Iterator[tuple[DataLayer, ClassUse, Labels]]:
    """Yield the labels of the train net that can be counted."""
    for layer, use, labels in _label_sets(sets):
        if layer.is_train and labels.are_classes:
            yield layer, use, labels


def _ranges(sets: DataSets) -> Iterator[tuple[DataLayer, ClassUse, int, int]]:
    """Yield the least and the largest of the labels, where they are whole numbers."""
    for layer, use, labels in _label_sets(sets):
        if labels.are_whole.all():
            yield layer, use, int(labels.values[0]), int(labels.values[-1])


def _from_one(use: ClassUse, low: int, high: int) -> bool:
    return low >= 1 and high == use.classes


def _unused(sets: DataSets, advice: str) -> Iterator[Found]:
    """Yield the data layers of the train net whose labels leave the last outputs unused, in TEST as well."""
    largest = max((int(labels.values[-1]) for _, _, labels in _label_sets(sets) if labels.are_classes), default=0)
    for layer, use, labels in _train_labels(sets):
        if layer.records.whole and use.classes is not None and use.classes > largest + 1:
            low, high = int(labels.values[0]), int(labels.values[-1])
            yield (
                layer.where,
                f"the labels are {low} to {high}, but layer '{use.layer.name}' reads {use.classes} outputs: the last "
                f"{use.classes - high - 1} never occur and take part in the loss; {advice}",
            )


def _cut(value: float) -> str:
    return f"{np.trunc(value):g}" if np.isfinite(value) else "an undefined number"
