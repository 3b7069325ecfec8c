"""Taking rows of a table by their numbers, and adding rows back: what Embed, Filter and BatchReindex share."""

from __future__ import annotations

import numpy as np

from minicaffe.cuda.kernels import kernel


def row_numbers(layer, values: np.ndarray, rows: int) -> np.ndarray:
    """Values truncated to whole numbers, flat; one that is no row raises the layer's error."""
    with np.errstate(invalid="ignore"):
        numbers = values.reshape(-1).astype(np.int32)
    wrong = (numbers < 0) | (numbers >= rows)
    if wrong.any():
        raise layer.error(f"index {numbers[wrong][0]} is out of range: there are {rows} rows, 0 to {rows - 1}")
    return numbers


def add_rows(table: np.ndarray, numbers: np.ndarray, values: np.ndarray) -> None:
    """table[numbers[i]] += values[i]; rows named several times are added in order."""
    if values.size >= 64 * numbers.size:  # long rows: numpy's own loop over them would be the slower one
        for row, value in zip(numbers.tolist(), values):
            table[row] += value
    elif numbers.size:
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        table[ordered[first]] += np.add.reduceat(values[order], first, axis=0)


def take_gpu(count: int, width: int, rows: int, numbers: int, table: int, out: int, dtype: np.dtype) -> None:
    """out[i] = table[numbers[i]] for `count` numbers; nan where a number is no row (the device cannot raise)."""
    kernel("rows", "take", dtype)(count * width, width, rows, numbers, table, out)


def add_gpu(count: int, width: int, rows: int, numbers: int, values: int, table: int, dtype: np.dtype) -> None:
    """table[numbers[i]] += values[i]; rows named several times are added in order."""
    kernel("rows", "add", dtype)(count * width, width, rows, count, numbers, values, table)
