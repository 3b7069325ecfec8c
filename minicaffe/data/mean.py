"""The mean image of a data set, and its .binaryproto file for transform_param { mean_file }."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator

import numpy as np
from google.protobuf.message import DecodeError

from minicaffe.data.arrays import read_array
from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import Database
from minicaffe.errors import DataError
from minicaffe.files import read_bytes, write_atomically
from minicaffe.proto import caffe_pb2


def compute_mean(database: Database, progress: Callable[[int], None] = lambda count: None) -> np.ndarray:
    """Return the mean of all images of a database, (C, H, W) in float64.

    progress: callback, called after every image with the number of images read; by default a no-op.
    DataError when the images differ in size, or when the database is empty.
    """
    total, count = None, 0
    for _, image, _ in images_of_one_size(database, "a mean"):
        total = np.zeros(image.shape, np.float64) if total is None else total
        total += image
        count += 1
        progress(count)
    if total is None:
        raise DataError(f"database {database.source} holds no records, so it has no mean")
    return total / count


def images_of_one_size(database: Database, purpose: str) -> Iterator[tuple[bytes, np.ndarray, int]]:
    """Yield key, image (C, H, W), uint8 or float32, and label of all records; an image may be a view of a buffer.

    purpose: what needs them, for the DataError that is raised when an image differs in shape from those before it.
    """
    decoder, shape = DatumDecoder(database.source), None
    for key, value in database.items():
        image, label = decoder.decode(key, value)
        shape = image.shape if shape is None else shape
        if image.shape != shape:
            raise DataError(
                f"record {key.decode(errors='replace')!r} of {database.source} has shape {image.shape}, "
                f"but the records before it {shape}: {purpose} needs images of one size{_remedy(image.shape, shape)}"
            )
        yield key, image, label


def _remedy(shape: tuple[int, ...], before: tuple[int, ...]) -> str:
    """Return what to do about images (C, H, W) of two shapes, as the end of a sentence."""
    if shape[1:] != before[1:]:
        return ": make the database with `convert_imageset --resize_width=W --resize_height=H`"
    return " and one number of channels: make the database with `convert_imageset` without --encoded, or with --gray"


def write_mean(path: str | os.PathLike, mean: np.ndarray) -> None:
    """Write a mean image (C, H, W) in the format of Caffe's tools: a BlobProto with the four legacy axes, num = 1.

    The file is written atomically.  DataError when that fails.
    """
    blob = caffe_pb2.BlobProto(num=1, channels=mean.shape[0], height=mean.shape[1], width=mean.shape[2])
    blob.data.extend(mean.astype(np.float32).ravel().tolist())
    write_atomically(path, blob.SerializeToString())


def read_mean(path: str | os.PathLike, axes: int = 3) -> np.ndarray:
    """Read the mean image in a .binaryproto file, (C, H, W) in float32.

    axes: 3 (default); 4: it may be (C, L, H, W) as well.
    DataError when the file is missing, is not a BlobProto, is not one image, or when the number of values does not
    match its shape.
    """
    blob = caffe_pb2.BlobProto()
    try:
        content = read_bytes(path)
        if content.startswith(b"\x93NUMPY"):
            raise DataError(
                f"mean file {path} is a NumPy file, expected a BlobProto: write it as "
                "minicaffe.io.array_to_blobproto(mean).SerializeToString()"
            )
        blob.ParseFromString(content)
    except OSError as error:
        is_elsewhere = isinstance(error, FileNotFoundError) and not os.path.isabs(path)
        where = f" (looked in {os.getcwd()})" if is_elsewhere else ""
        raise DataError(f"cannot read mean file {path}: {error.strerror or error}{where}") from error
    except DecodeError as error:
        raise DataError(f"mean file {path} is no BlobProto: {error}") from error
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    values = np.array(blob.double_data if blob.double_data else blob.data, np.float32)
    if not all(length > 0 for length in shape) or values.size != math.prod(shape):
        raise DataError(f"mean file {path} holds {values.size} values for shape {shape}")
    axes = axes if len(shape) > axes else 3
    if len(shape) < 3 or any(n != 1 for n in shape[:-axes]):
        raise DataError(f"mean file {path} must hold one image (C, H, W), got shape {shape}")
    return values.reshape(shape[-axes:])


def channel_means(path: str, dtype: type | None = None) -> np.ndarray:
    """Return the mean of each channel, (K), of a mean file: .npy, (K, H, W) or (K), or another name for .binaryproto.

    dtype: in which the sums are computed.  None (default): that of the file, as in Caffe's python/classify.py;
        np.float64: as in its cpp_classification.
    DataError as for `read_array` and `read_mean`, and for another shape.
    """
    mean = read_array(path) if path.endswith(".npy") else read_mean(path)
    if mean.ndim not in (1, 3) or mean.size == 0:
        raise DataError(f"mean file '{path}': expected an array (K, H, W) or (K), got shape {mean.shape}")
    return mean if mean.ndim == 1 else mean.mean((1, 2), dtype)
