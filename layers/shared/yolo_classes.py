"""YOLO9000's tree of classes, and which class a label has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.errors import LayerError, printable
from minicaffe.text import read_text


def class_tree(layer: Layer, path: str, classes: int) -> np.ndarray:
    """Return (3, C): for each class the first of its siblings, their number, and its parent, -1: none.

    path: a file with a line "name parent" for each class, siblings one after the other; "": all classes are siblings.
    """
    if not path:
        return np.tile([[0], [classes], [-1]], classes)
    parents = _numbers(layer, "softmax_tree", path)
    wrong = [i for i, parent in enumerate(parents) if not -1 <= parent < i]
    if len(parents) != classes or wrong:
        what = f"a parent {parents[wrong[0]]} in line {wrong[0] + 1}" if wrong else f"{len(parents)} lines"
        raise layer.error(
            f"softmax_tree '{printable(path)}' must have {classes} lines whose parent is an earlier one, from 0 on, "
            f"or -1, got {what}"
        )
    new = np.flatnonzero(np.diff(parents, prepend=-2))
    lengths = np.diff([*new, classes])
    return np.stack([new.repeat(lengths), lengths.repeat(lengths), parents])


def groups_of(tree: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first class and the one behind the last of each group of siblings."""
    for start in np.unique(tree[0]).tolist():
        yield start, start + int(tree[1, start])


def class_numbers(layer: Layer, path: str, classes: int) -> np.ndarray:
    """Return the class of each label; path: a file with a line for each label; "": the labels are the classes."""
    if not path:
        return np.arange(classes)
    numbers = _numbers(layer, "class_map", path)
    wrong = [number for number in numbers if not 0 <= number < classes]
    if wrong or not numbers:
        raise layer.error(
            f"class_map '{printable(path)}' must give classes 0 to {classes - 1}, got {wrong[:1] or 'none'}"
        )
    return np.array(numbers)


def _numbers(layer: Layer, field: str, path: str) -> list[int]:
    """Return the last number of each line of a file that is not empty."""
    lines = [line.split() for line in read_text(path, field, LayerError).split("\n")]
    try:
        return [int(words[-1]) for words in lines if words]
    except ValueError as error:
        raise layer.error(f"{field} '{printable(path)}' must have a whole number at the end of each line") from error
