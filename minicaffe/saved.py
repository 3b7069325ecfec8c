"""Checks of the values in a saved state, which comes from a file and may be damaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.errors import SnapshotError

LARGEST = (1 << 62) - 1  #: of counts that have no other limit
LARGEST_WORD = (1 << 64) - 1


def whole(state: Any, name: str, most: int = LARGEST, least: int = 0) -> int:
    """Return the whole number `name` of a state; SnapshotError unless it is one from `least` to `most`."""
    value = field(state, name)
    if not _is_whole(value, most, least):
        raise SnapshotError(f"{name} must be a whole number from {least} to {most}, got {shown(value)}")
    return value


def seed(state: Any) -> int | None:
    """Return the `seed` of a state, which may be None; SnapshotError unless it has 64 bits."""
    return None if field(state, "seed") is None else whole(state, "seed", LARGEST_WORD)


def words(state: Any, name: str, count: int) -> list[int]:
    """Return the list `name` of a state; SnapshotError unless it has `count` whole numbers of 64 bits."""
    values = field(state, name)
    if not isinstance(values, list) or len(values) != count or not all(_is_whole(v, LARGEST_WORD) for v in values):
        raise SnapshotError(f"{name} must be {count} whole numbers of 64 bits, got {shown(values)}")
    return values


def arrays(state: Any, name: str, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Return the list `name` of a state as arrays; SnapshotError unless it has one, in nested lists, for each shape."""
    values = field(state, name)
    try:
        found = [np.asarray(each) for each in values] if isinstance(values, list) else []
    except (ValueError, OverflowError):  # lists of unequal length
        found = []
    if len(found) == len(shapes):  # lists without values lack their other lengths
        found = [each if each.size else each.reshape(shape if 0 in shape else -1) for each, shape in zip(found, shapes)]
    if [each.shape for each in found] != list(shapes) or any(each.dtype.kind not in "fiu" for each in found):
        raise SnapshotError(f"{name} must be lists of numbers of the shapes {list(shapes)}, got {shown(values)}")
    return found


def field(state: Any, name: str) -> Any:
    """Return the value of `name` in a state; SnapshotError if the state is no dict, or lacks it."""
    if not isinstance(state, dict) or name not in state:
        raise SnapshotError(f"{name} is missing in the state {shown(state)}")
    return state[name]


def shown(value: Any) -> str:
    """Return a value in a form that can be part of a sentence."""
    try:
        text = repr(value) if not isinstance(value, int) or abs(value) <= LARGEST_WORD else "a huge number"
    except (RecursionError, ValueError):  # ValueError: Python prints no integer of more than 4300 digits
        text = "lists in lists, or numbers, that are too large to show"
    return ascii(text)[1:-1] if len(text) <= 60 else ascii(text[:60])[1:-1] + "..."


def _is_whole(value: Any, most: int, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
