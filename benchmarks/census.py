"""Counts what the memory of a net and its solver is used for, see memory.py."""

from __future__ import annotations

import ctypes
import gc
import os
from collections import defaultdict

import numpy as np

_PAGE = os.sysconf("SC_PAGESIZE")

#: what arrays are for, in the order in which they are counted: an array that fits two kinds is of the first
KINDS = (
    "parameters",
    "converted",
    "their diffs",
    "history",
    "tops",
    "tops' diffs",
    "layers' own",
    "scratchpads",
    "rest",
)


class Census:
    """Counts the resident bytes of arrays by what they are used for; a page that two arrays share counts once."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = defaultdict(int)
        self._seen: set[int] = set()

    def count(self, net, solver) -> dict[str, int]:
        """Bytes by kind, for a net and perhaps its solver."""
        gc.collect()
        params = [blob for layer in net.layers for blob in layer.blobs]
        tops = [blob for blobs in net.tops for blob in blobs]
        for kind, found in (
            ("parameters", [blob.data_memory._host for blob in params]),
            ("converted", [blob.data_memory for blob in params]),
            ("their diffs", [blob.diff_memory for blob in params]),
            ("history", [blob.data_memory for blob in getattr(solver, "history", [])]),
            ("tops", [blob.data_memory for blob in tops]),
            ("tops' diffs", [blob.diff_memory for blob in tops]),
            ("converted", [vars(group) for group in net.fused.values() if hasattr(group, "fold")]),
            ("layers' own", [*map(vars, net.layers), *map(vars, net.fused.values())]),
            ("scratchpads", [each._scratch for each in _objects("Execution")]),
            ("rest", [*_objects("Tensor"), *_objects("Memory")]),
        ):
            self._add_all(kind, found, 0)
        return {kind: self.bytes[kind] for kind in KINDS}

    def _add_all(self, kind: str, value, depth: int) -> None:
        """The arrays in an object, in its attributes and in containers."""
        if isinstance(value, np.ndarray):
            self._add(kind, value)
        elif depth < 6:
            for each in _parts(value):
                self._add_all(kind, each, depth + 1)

    def _add(self, kind: str, array: np.ndarray) -> None:
        """Count the resident pages of an array that were not counted before."""
        first = array.ctypes.data // _PAGE
        pages = -(-(array.ctypes.data + array.nbytes) // _PAGE) - first
        resident = (ctypes.c_ubyte * pages)()
        ctypes.CDLL(None).mincore(ctypes.c_void_p(first * _PAGE), ctypes.c_size_t(pages * _PAGE), resident)
        for i in range(first, first + pages):
            if resident[i - first] & 1 and i not in self._seen:
                self._seen.add(i)
                self.bytes[kind] += _PAGE


def _objects(name: str) -> list:
    """All objects of a class of minicaffe's."""
    found = (each for each in gc.get_objects() if type(each).__name__ == name)
    return [each for each in found if type(each).__module__.startswith("minicaffe")]


#: by class, the attributes that hold arrays or lead to some
_ATTRIBUTES = {
    "Blob": ("data_memory", "diff_memory"),
    "Memory": ("_host", "copies"),
    "Layouts": ("copies", "spares"),
    "Deferred": ("layouts",),
    "Tensor": ("buffer",),
    "Kept": ("memory",),
    "KeptBlobs": ("bottoms", "tops"),
    "Correlation": ("_buffers",),
    "DepthwiseCorrelation": ("_buffers",),
}


def _parts(value) -> list:
    """What an object holds."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    return [getattr(value, name, None) for name in _ATTRIBUTES.get(type(value).__name__, ())]
