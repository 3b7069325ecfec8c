"""Pickles of dictionaries of arrays, such as CIFAR-10's python version, read without running what they name.

A pickle is a program that calls functions and sets the state of objects; numpy's own, called with a hostile state, read
foreign memory.  Here the few operations of such a dictionary are allowed, and the names of numpy's classes stand for
classes of this module, which check what they are given.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from typing import Any

import numpy as np

_OPERATIONS = frozenset(
    "PROTO FRAME STOP MARK EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES PUT BINPUT LONG_BINPUT MEMOIZE GET "
    "BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)
_MAX_TUPLES = 1000  #: a tuple nested deeper than the C stack would end the process
_TYPE = re.compile("[biu][1248]")  #: of the numbers: bool, int, unsigned, and their bytes
_DAMAGED = (ArithmeticError, AttributeError, EOFError, LookupError, TypeError)


def read_arrays(data: bytes) -> dict[bytes | str, np.ndarray]:
    """Return the arrays and lists of whole numbers in a pickled dictionary, by key, as arrays.

    Other values are omitted.  ValueError for anything but such a dictionary of numbers, texts and lists.
    """
    _check_operations(data)
    try:
        found = _Reader(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(found, dict):
            raise ValueError("it holds no dictionary")
        return {key: array for key, value in found.items() if (array := _as_array(value)) is not None}
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error
    except _DAMAGED as error:
        raise ValueError(f"it is damaged: {error}") from error


def _check_operations(data: bytes) -> None:
    tuples = 0
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        name = operation.name
        tuples += name.startswith("TUPLE")
        if name not in _OPERATIONS or tuples > _MAX_TUPLES:
            raise ValueError(f"it is more than a dictionary of arrays: operation {name}")
        if name.endswith("PUT") and (argument or 0) > number:  # the unpickler would allocate memory for so many
            raise ValueError(f"it is damaged: it counts {argument} objects after {number} operations")


def _as_array(value: Any) -> np.ndarray | None:
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, list) and all(type(each) is int for each in value):
        return np.array(value, np.int64)
    return None


class _Type:
    """What a pickle describes as numpy.dtype."""

    def __init__(self, name: str | bytes, *_: object) -> None:
        self.name = _text(name)
        self.order = "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = _text(state[1])

    def dtype(self) -> np.dtype:
        """Return the type; ValueError for any but whole numbers."""
        if not _TYPE.fullmatch(self.name) or self.order not in ("|", "<", ">"):
            raise ValueError(f"its numbers are of type {self.name!r}, expected whole numbers")
        return np.dtype(self.order + self.name)


class _Array:
    """What a pickle describes as numpy.ndarray."""

    def __init__(self, *_: object) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, column_major, content = state
        if not isinstance(kind, _Type) or not isinstance(content, bytes) or not isinstance(shape, tuple):
            raise ValueError("the state of an array is damaged")
        self.values = np.frombuffer(content, kind.dtype()).reshape(shape, order="F" if column_major else "C")


class _Reader(pickle.Unpickler):
    """Unpickler for which numpy's names are the classes above, and which rejects every other name."""

    def find_class(self, module: str, name: str) -> object:
        """Return the class or function that stands for a name in a pickle."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Array if name == "ndarray" else _Type
        if (module, name) == ("_codecs", "encode"):  # Python 3 pickles bytes for Python 2 in this way
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
