"""Pickles of arrays: those of Python 2 and 3 are read, and nothing that a pickle names is run."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from minicaffe.data.datasets.pickled import read_arrays

VALUES = {
    b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    b"columns": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    b"labels": [1, 2, 3],
}


@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
def test_arrays_and_lists(protocol):
    found = read_arrays(pickle.dumps({**VALUES, b"text": b"x", b"names": ["a"], "ü": (1, None, True)}, protocol))
    assert set(found) == set(VALUES)
    for key, value in VALUES.items():
        np.testing.assert_array_equal(found[key], value)


def test_python_2():
    """As Python 2 writes them: texts of bytes, numpy.core."""
    data = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\0\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\0K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\0tb\x89U\x02\x05\x07tbU\x06labelsq\x08]q\x09(K\x06K\x03eu."
    )
    found = read_arrays(data)
    np.testing.assert_array_equal(found[b"data"], [[5, 7]])
    np.testing.assert_array_equal(found[b"labels"], [6, 3])


class Calls:
    """A pickle that calls `function` with `arguments`, then sets the object's state."""

    def __init__(self, function, arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


RECONSTRUCT = np.empty(0).__reduce__()[0]
FOREIGN = Calls(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))  # objects without their flag


def array(shape, kind, content):
    return Calls(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, kind, False, content))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Calls(os.system, ("exit 3",)), "it refers to posix.system|it refers to nt.system"),
        (Calls(eval, ("1",)), "it refers to (builtins|__builtin__).eval"),
        (array((2,), FOREIGN, b"A" * 16), "numbers are of type 'O8', expected whole numbers"),
        (array((2,), np.dtype("f4"), b"A" * 8), "numbers are of type 'f4'"),
        (array((1 << 40,), np.dtype("u1"), b"A"), "cannot reshape"),
        (array((2,), "u1", b"A"), "the state of an array is damaged"),
        (array((2,), np.dtype("u1"), [1, 2]), "the state of an array is damaged"),
        (Calls(np.ndarray, ((1 << 40,),), 5), "it is damaged"),
        ({1, 2}, "operation EMPTY_SET|it refers to .*set"),
        (1 << 5000, "operation LONG4"),
        ([1 << 100], "it is damaged"),
    ],
)
def test_hostile_values(value, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(pickle.dumps({b"data": value}, 4 if isinstance(value, set) else 2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "pickle exhausted"),
        (b"\x80\x02].", "it holds no dictionary"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "counts 2147483647 objects after 2 operations"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "bytes8|BINBYTES8"),
        (b"\x80\x02B\xff\xff\xff\x7fx.", "expected 2147483647 bytes"),
        (b"\x80\x02}" + b")" + b"\x85" * 2000 + b"K\1s.", "operation TUPLE1"),
        (b"\x80\x02}h\x07.", "it is damaged|Memo value not found"),
        (b"\x80\x02}(K\1u.", "odd number of items"),
        (b"\x80\x02}]K\1s.", "it is damaged: unhashable"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "it is damaged"),
        (b"\x80\x02s.", "unpickling stack underflow|stack"),
    ],
)
def test_damaged_pickles(data, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(data)


def test_a_forged_type_ends_no_process():
    """Numpy's own classes read foreign memory here, so it is tried in another process."""
    data = pickle.dumps({b"data": array((2,), FOREIGN, b"A" * 16), b"labels": [1]}, 2)
    code = f"from minicaffe.data.datasets.cifar10 import parse_pickle; parse_pickle({data!r}, 'x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "x is no batch of CIFAR-10's python version: its numbers are of" in done.stderr
