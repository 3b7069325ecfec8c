"""Conversions between arrays, protos and images: pycaffe's `caffe.io`.

Images are float32 arrays (H, W, K) with values in [0, 1], K = 3 in RGB order or 1 for grey; a net's input is
(K, H, W), mostly BGR with values in [0, 255].  `Transformer` converts in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from typing import BinaryIO

import numpy as np
from google.protobuf.message import DecodeError

from minicaffe.data.arrays import as_image, height_and_width, numbers
from minicaffe.data.image_transformer import Transformer  # noqa: F401  (one of the names of caffe.io)
from minicaffe.data.resize import resize_image  # noqa: F401
from minicaffe.errors import BlobError, DataError, UsageError
from minicaffe.proto import caffe_pb2


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """Return the values of a BlobProto as an array of its shape; its diff with `return_diff`.

    Both forms of shape are read: `shape { dim ... }`, and the old num, channels, height, width, which give four axes.
    Without any shape the blob must hold one value, and the result has no axes.  The array is float32, or float64 if
    the blob stores doubles.
    BlobError (a ValueError) when the number of values does not match the shape; UsageError for a serialised message.
    """
    _check_message(blob, "BlobProto")
    values = np.array(_values(blob, return_diff))
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        shape: tuple[int, ...] = (blob.num, blob.channels, blob.height, blob.width)
    else:
        shape = tuple(blob.shape.dim)
    if min(shape, default=0) < 0 or values.size != math.prod(shape):
        raise BlobError(f"BlobProto holds {values.size} values, which do not fit its shape {shape}")
    return values.reshape(shape)


def _values(blob: caffe_pb2.BlobProto, return_diff: bool) -> Sequence[float]:
    single, double = (blob.diff, blob.double_diff) if return_diff else (blob.data, blob.double_data)
    return double if len(double) else single


def _check_message(value: object, kind: str) -> None:
    if isinstance(value, (bytes, str, PathLike)):
        raise UsageError(f"expected a {kind}, got {type(value).__name__}: {kind}.FromString reads one from bytes")


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """Return a BlobProto with the shape and values of `arr`, stored as float32, and with `diff` if given.

    BlobError (a ValueError) when `diff` has another shape than `arr`.
    """
    arr, blob = numbers(arr, "array_to_blobproto"), caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(np.asarray(arr, np.float32).ravel())
    if diff is not None:
        if np.shape(diff) != arr.shape:
            raise BlobError(
                f"array_to_blobproto: diff must have the shape of the data, {arr.shape}, got {np.shape(diff)}"
            )
        blob.diff.extend(np.asarray(diff, np.float32).ravel())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Serialise a list of arrays as one BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.blobs.extend(array_to_blobproto(arr) for arr in arraylist)
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """Return the arrays of a serialised BlobProtoVector; DataError when the bytes cannot be parsed."""
    vector = caffe_pb2.BlobProtoVector()
    try:
        vector.ParseFromString(str)
    except (DecodeError, TypeError) as error:
        raise DataError(f"blobprotovector_str_to_arraylist: expected a serialised BlobProtoVector: {error}") from error
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """Return a Datum of an array (K, H, W): uint8 is stored in `data` as bytes, any other type in `float_data`.

    label: an int; None (default) leaves the field unset.
    BlobError (a ValueError) when `arr` does not have three axes.
    """
    arr = numbers(arr, "array_to_datum")
    if arr.ndim != 3:
        raise BlobError(f"array_to_datum: expected an array (channels, height, width), got shape {arr.shape}")
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """Return the image (K, H, W) of a Datum: uint8 from `data`, float64 from `float_data`.

    The label is not part of the result: read `datum.label`.
    DataError when the image is encoded (JPEG, PNG), or when the number of values does not match the Datum's size;
    UsageError for a serialised message.
    """
    _check_message(datum, "Datum")
    if datum.encoded:
        raise DataError("datum_to_array: this Datum holds an encoded image; decode datum.data first")
    shape = (datum.channels, datum.height, datum.width)
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, float)
    if min(shape) < 0 or values.size != math.prod(shape):
        raise DataError(
            f"datum_to_array: this Datum has (channels, height, width) = {shape}, but holds {values.size} values"
        )
    return values.reshape(shape).copy()


def load_image(filename: str | PathLike | BinaryIO, color: bool = True) -> np.ndarray:
    """Load an image as float32 (H, W, 3), RGB in [0, 1]; with `color=False` as grey (H, W, 1).

    filename: a path, or a file opened in binary mode.
    Grey images are repeated over three channels, an alpha channel is dropped.  Integer values are divided by the
    maximum of their type (255, 65535, ...), floats are not scaled.
    DataError when the file is missing or Pillow cannot read it, UsageError for anything else than a file.
    """
    from minicaffe.data.image import decode_floats
    from minicaffe.data.image_file import read_bytes

    if hasattr(filename, "read"):
        return decode_floats(filename.read(), color, str(getattr(filename, "name", "the open file")))
    if not isinstance(filename, (str, PathLike)):
        raise UsageError(f"load_image: expected the path of an image or an open file, got {type(filename).__name__}")
    return decode_floats(read_bytes(filename), color, fspath(filename))


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return ten crops of each image: the four corners and the centre, then the mirror images of these five.

    images: N arrays (H, W, K) of one size.  crop_dims: (height, width), in pixels.
    Returns float32 (10 * N, height, width, K).
    UsageError when a crop is larger than the images, or when the sizes of the images differ.
    """
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise UsageError(f"oversample: expected a list of images (H, W, K), got one array of shape {images.shape}")
    images = [as_image(image, "oversample") for image in images]
    if len({image.shape for image in images}) != 1:
        raise UsageError(f"oversample: expected images of one size, got {[image.shape for image in images] or 'none'}")
    height, width, channels = images[0].shape
    crop_h, crop_w = height_and_width(crop_dims, "oversample: crop_dims")
    if crop_h > height or crop_w > width:
        raise UsageError(f"oversample: crops of {crop_h}x{crop_w} do not fit images of {height}x{width}")
    bottom, right = height - crop_h, width - crop_w
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = np.empty((10 * len(images), crop_h, crop_w, channels), np.float32)
    for n, image in enumerate(images):
        for i, (y, x) in enumerate(corners):
            crop = image[y : y + crop_h, x : x + crop_w]
            crops[10 * n + i] = crop
            crops[10 * n + 5 + i] = crop[:, ::-1]
    return crops
