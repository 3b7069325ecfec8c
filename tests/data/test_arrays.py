"""Arrays in .npy files: the numbers of numpy.load, or an error of one sentence."""

import io

import numpy as np
import pytest

from minicaffe.data.arrays import numbers, read_array
from minicaffe.errors import DataError, UsageError

VALUES = np.arange(24).reshape(2, 3, 4)


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("array", [
    VALUES, np.asfortranarray(VALUES), VALUES.astype(">f4"), VALUES > 5, VALUES.astype(np.float16), np.array(3.5),
    np.empty((0, 4)),
])  # fmt: skip
def test_numbers(tmp_path, array):
    (tmp_path / "x.npy").write_bytes(npy(array) + b"more")
    found = read_array(str(tmp_path / "x.npy"))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=") and found.flags.writeable


def header(text):
    head = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head


@pytest.mark.parametrize("content, sentence", [
    (b"", "it has no valid header of an .npy file"),
    (b"PK\3\4 an archive", "it has no valid header of an .npy file"),
    (npy(VALUES)[:60], "it has no valid header of an .npy file"),
    (npy(VALUES)[:-1], r"191 bytes are no int64 array of shape \(2, 3, 4\)"),
    (npy(np.array(["text"])), "expected numbers, got <U4"),
    (npy(np.array([{}], object)), "expected numbers, got object"),
    (npy(np.zeros(3, [("a", "f4")])), "expected numbers, got "),
    (npy(np.zeros(3, complex)), "expected numbers, got complex128"),
    (header("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"), "0 bytes are no float64"),
    (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}"), "0 bytes are no float64 array"),
    (header("{'descr': '<f8', 'fortran_order': False, 'shape': 5}"), "it has no valid header"),
    (header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "(" * 60), "it has no valid header"),
    (header("{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}"), r"0 bytes are no .* of shape \(1,\)"),
    (b"\x93NUMPY\3\0" + npy(VALUES)[8:], "it has no valid header"),
])  # fmt: skip
def test_files_that_are_refused(tmp_path, content, sentence):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read the array '.*x.npy': {sentence}"):
        read_array(str(tmp_path / "x.npy"))


@pytest.mark.parametrize("path, sentence", [
    ("missing.npy", "No such file"), (".", "it is a folder"), ("a\0b.npy", "its name has a null character"),
])  # fmt: skip
def test_paths_that_cannot_be_read(path, sentence):
    with pytest.raises(DataError, match=f"cannot read the array '.*': {sentence}"):
        read_array(path)


def test_integers_beyond_64_bits_are_no_numbers():
    with pytest.raises(UsageError, match="x: expected an array of numbers, got list"):
        numbers([10**400, None], "x")
