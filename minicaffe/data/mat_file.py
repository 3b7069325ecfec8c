"""MATLAB files of version 5 with one array, as MatWrite writes them.

MATLAB's first axis changes fastest, so an array (N, C, H, W) is W x H x C x N there, with the same numbers in a row.
"""

from __future__ import annotations

import os
import struct

import numpy as np

from minicaffe.errors import DataError
from minicaffe.files import write_atomically

NAME = "data"  #: of the array, as in DeepLab's Caffe
# Types of elements, and for each dtype MATLAB's class and the type of its numbers.
_MATRIX, _INT8, _INT32, _UINT32 = 14, 1, 5, 6
_CLASSES = {np.dtype(np.float64): (6, 9), np.dtype(np.float32): (7, 7)}


def write_mat(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write an array of float32 or float64 to a MATLAB file; DataError when it cannot be written."""
    kind, number = _CLASSES[array.dtype]
    shape = struct.pack(f"<{max(array.ndim, 2)}i", *reversed((1,) * (2 - array.ndim) + array.shape))
    parts = (_UINT32, struct.pack("<II", kind, 0)), (_INT32, shape), (_INT8, NAME.encode()), (number, array.tobytes())
    body = b"".join(struct.pack("<II", kind, len(content)) + _padded(content) for kind, content in parts)
    if len(body) >= 1 << 32:
        raise DataError(f"cannot write {path}: its array has {array.nbytes} bytes, more than the format allows")
    text = b"MATLAB 5.0 MAT-file, written by minicaffe".ljust(116) + bytes(8) + struct.pack("<H", 0x100) + b"IM"
    write_atomically(path, text + struct.pack("<II", _MATRIX, len(body)) + body)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)
