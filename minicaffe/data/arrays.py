"""Arrays that scripts pass to a net, viewed in the blob's shape or rejected; arrays in .npy and .npz files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.lib import format as npy

from minicaffe import limits
from minicaffe.errors import DataError, ShapeError, UsageError
from minicaffe.files import read_bytes

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def numbers(values: Any, what: str) -> np.ndarray:
    """Convert `values` to a numpy array of real numbers.

    what: start of the error message.  UsageError for values that are not real numbers.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O" and values is not None:  # e.g. numbers of different types
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        array = None
    if array is None or array.dtype.kind not in "biuf":
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise UsageError(f"{what}: expected an array of numbers, got {kind}")
    return array


def read_array(path: str) -> np.ndarray:
    """Read the real numbers in a .npy file; nothing is allocated before the shape is compared with the file's size.

    DataError when the file cannot be read, is damaged or cut short, or holds objects or other values.
    """
    return _array_of(_content(path), f"the array '{path}'")


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Read the arrays of real numbers in an .npz file, by name; those of text or objects are left out.

    DataError as for `read_array`, and when the arrays are too large for the file (`limits.max_expanded`).
    """
    data = _content(path)
    if not data.startswith(b"PK"):
        raise DataError(f"cannot read the arrays '{path}': it is no .npz file")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            members = {each.filename.removesuffix(".npy"): each for each in archive.zip.infolist()}
            if limits.expands_too_far(sum(each.file_size for each in members.values()), len(data)):
                raise DataError(
                    f"'{path}', {len(data)} bytes, expands to more than the environment variable "
                    "MINICAFFE_MAX_EXPANDED allows"
                )
            contents = {name: archive.zip.read(each) for name, each in members.items()}
    except DataError:
        raise
    except Exception as error:  # for damaged archives zipfile and zlib raise exceptions of many types
        raise DataError(f"cannot read the arrays '{path}': it is damaged ({error})") from error
    named = {name: (content, f"the array '{name}' of '{path}'") for name, content in contents.items()}
    return {name: _array_of(*each) for name, each in named.items() if _header(*each)[2].kind in "biuf"}


def _content(path: str) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot read the array '{path}': {error.strerror or error}") from error


def _header(data: bytes, what: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, whether it is in Fortran's order, type and length of the header of an .npy file."""
    file = io.BytesIO(data)
    try:
        shape, fortran, dtype = _HEADERS[npy.read_magic(file)](file)
    except Exception as error:  # for damaged headers, which numpy evaluates, it raises exceptions of many types
        raise DataError(f"cannot read {what}: it has no valid header of an .npy file") from error
    return tuple(map(int, shape)), fortran, dtype, file.tell()  # a header may have True as a length


def _array_of(data: bytes, what: str) -> np.ndarray:
    shape, fortran, dtype, start = _header(data, what)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(f"cannot read {what}: expected numbers, got {dtype}")
    count, stored = math.prod(shape), len(data) - start
    try:
        if min(shape, default=0) < 0 or count * dtype.itemsize > stored:
            raise ValueError
        array = np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")
    except ValueError:  # numpy's own is for shapes that no array can have, such as (0, 2^62)
        raise DataError(f"cannot read {what}: {stored} bytes are no {dtype} array of shape {shape}") from None
    return array.astype(dtype.newbyteorder("="))


def same_axes(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes are equal except for axes of length 1: (1, 3, 8) and (3, 8, 1) are."""
    return [d for d in shape if d != 1] == [d for d in other if d != 1]


def fitted(array: np.ndarray, shape: Sequence[int], what: str, remedy: str = "") -> np.ndarray:
    """Return a view of `array` that can be assigned to an array of `shape`.

    Axes of length 1 may be missing or additional.  As in numpy and in the original, an axis of length 1 also broadcasts
    if the array has as many axes as the shape, except for axis 0, the batch.
    what: start of the error message.  remedy: its end for another batch.  ShapeError when the array does not fit.
    """
    if same_axes(array.shape, shape):
        return array.reshape(shape)
    if array.ndim == len(shape) and all(a in (1, d) for a, d in zip(array.shape[1:], shape[1:])):
        if len(array) == shape[0]:
            return array
        raise ShapeError(f"{what}: expected a batch of {shape[0]} (axis 0), got shape {array.shape}{remedy}")
    raise ShapeError(f"{what}: expected shape {tuple(shape)}, got {array.shape}{transposed_hint(array.shape, shape)}")


def transposed_hint(got: Sequence[int], expected: Sequence[int]) -> str:
    """Return a hint for images whose channels are the last axis instead of the first; '' for other shapes."""
    if len(got) not in (3, 4) or not same_axes((got[-1], got[-3], got[-2]), expected[-3:]):
        return ""
    return "; its channels are the last axis: transpose it to (N, C, H, W), as minicaffe.io.Transformer does"


# -- images ------------------------------------------------------------------------------------------------------------


def as_image(values: Any, what: str) -> np.ndarray:
    """Return an image (H, W, K) from one of shape (H, W, K), (H, W) or (1, H, W, K).

    what: start of the error message.
    UsageError for a file name and for values that are not numbers, ShapeError for other shapes.
    """
    if isinstance(values, (str, PathLike)):
        raise UsageError(f"{what}: expected an image, got '{values}': minicaffe.io.load_image reads files")
    image = numbers(values, what)
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    elif image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or image.size == 0:
        raise ShapeError(f"{what}: expected an image (H, W, K), got shape {np.shape(values)}")
    return image


def height_and_width(dims: Sequence[int] | np.ndarray, what: str) -> tuple[int, int]:
    """Return the first two of `dims` as ints; UsageError, starting with `what`, unless they are positive."""
    try:
        height, width = int(dims[0]), int(dims[1])
    except (IndexError, TypeError, ValueError, OverflowError):
        height = width = 0
    if min(height, width) < 1:
        raise UsageError(f"{what}: expected (height, width), both positive, got {dims}")
    return height, width
