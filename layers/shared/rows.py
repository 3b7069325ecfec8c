"""Gathering rows of a table by their indices, and adding rows back, for Embed, Filter and BatchReindex."""

from __future__ import annotations

import numpy as np

from minicaffe.cuda.kernels import kernel
from minicaffe.layers.shared.views import truncated


def row_numbers(layer, values: np.ndarray, rows: int) -> np.ndarray:
    """Return values truncated to whole numbers, flat; raise the layer's error for an index outside the rows."""
    numbers = truncated(values.reshape(-1))
    wrong = (numbers < 0) | (numbers >= rows)
    if wrong.any():
        raise layer.error(f"index {numbers[wrong][0]} is out of range: there are {rows} rows, 0 to {rows - 1}")
    return numbers


def add_rows(table: np.ndarray, numbers: np.ndarray, values: np.ndarray) -> None:
    """Add values[i] to table[numbers[i]], in order, also where an index occurs several times."""
    if values.size >= 64 * numbers.size:  # long rows: faster than np.add.reduceat
        for row, value in zip(numbers.tolist(), values):
            table[row] += value
    elif numbers.size:
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        table[ordered[first]] += np.add.reduceat(values[order], first, axis=0)


def take_gpu(count: int, width: int, rows: int, numbers: int, table: int, out: int, dtype: np.dtype) -> None:
    """out[i] = table[numbers[i]] for `count` indices; nan for an index outside the rows (a kernel cannot raise)."""
    kernel("rows", "take", dtype)(count * width, width, rows, numbers, table, out)


def add_gpu(count: int, width: int, rows: int, numbers: int, values: int, table: int, dtype: np.dtype) -> None:
    """Add values[i] to table[numbers[i]], in order, also where an index occurs several times."""
    kernel("rows", "add", dtype)(count * width, width, rows, count, numbers, values, table)
