"""Conversion of a `Datum` message, one record of a database, to an array and a label, and back.

A Datum holds an image (C, H, W) as uint8 planes (`data`), as floats (`float_data`) or as an encoded image file (`data`
with `encoded: true`), and one int32 label.  In databases of the SSD fork it is in an AnnotatedDatum, beside boxes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from minicaffe.data.image import decode_image, decode_pixels
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2

_ANNOTATED = b"\x0a"  # the first byte of an AnnotatedDatum: field 1, a message; in a Datum field 1 is a number
_FLOAT_TAG = 0x35  # of one value of float_data: field 6, four bytes
_FLOAT_FIELD = np.dtype([("tag", np.uint8), ("value", "<f4")])


def array_to_datum(array: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """Return a Datum of an array (C, H, W): uint8 is stored in `data`, any other type in `float_data`.

    label: None (default) leaves the field unset.
    DataError for another number of axes, and for a label outside the range of int32.
    """
    array = np.asarray(array)
    if array.ndim != 3:
        raise DataError(f"a Datum holds an array (C, H, W), got shape {array.shape}")
    datum = caffe_pb2.Datum(channels=array.shape[0], height=array.shape[1], width=array.shape[2])
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
    else:
        datum.float_data.extend(array.astype(np.float64).ravel().tolist())
    if label is not None:
        if not -(2**31) <= label < 2**31:
            raise DataError(f"a Datum holds a label of 32 bits, got {label}")
        datum.label = int(label)
    return datum


def datum_to_array(datum: caffe_pb2.Datum, color: bool | None = None, name: str = "Datum") -> np.ndarray:
    """Return the image of a Datum, (C, H, W), uint8 or float32.

    color: for encoded images, True or False forces three channels or one; None (default) keeps those of the file.
    name: the record, for error messages.
    DataError when the image cannot be decoded or the number of values does not match the size.
    """
    if datum.encoded:
        return decode_image(datum.data, color, name)
    shape = (datum.channels, datum.height, datum.width)
    if datum.data:
        array = np.frombuffer(datum.data, np.uint8)
    else:
        array = np.fromiter(datum.float_data, np.float32, len(datum.float_data))
    if min(shape) < 0 or array.size != shape[0] * shape[1] * shape[2]:
        raise DataError(
            f"{name} has channels x height x width = {'x'.join(map(str, shape))}, but holds {array.size} values"
        )
    return array.reshape(shape)


class EncodedImage(NamedTuple):
    """The image file in a record, before it is decoded; `color` and `name` as for `decode_image`."""

    data: bytes
    color: bool | None
    name: str

    def pixels(self) -> np.ndarray:
        """Return the image (C, H, W) uint8, read-only; DataError when it cannot be decoded."""
        return decode_pixels(*self)


class DatumDecoder:
    """Decoder of the serialized Datums of one database.

    Most databases hold images of one size, uint8 or floats, whose records differ in values and label only.  After the
    first such record, records that start with the same bytes are parsed without protobuf; uint8 without a copy.

    source: the database, for error messages.  color: as for `datum_to_array`.
    """

    def __init__(self, source: str, color: bool | None = None) -> None:
        self.source, self.color = source, color
        self._likely: _Pixels | _Floats | None = None  # the form of the last record that was parsed with protobuf

    def decode(self, key: bytes, value: bytes | memoryview) -> tuple[np.ndarray, int]:
        """Return the image (C, H, W), uint8 or float32, and its label; the image may be a view of `value`.

        DataError for a record that is not a Datum or holds no image.
        """
        image, label = self.parse(key, value)
        return image.pixels() if isinstance(image, EncodedImage) else image, label

    def parse(self, key: bytes, value: bytes | memoryview) -> tuple[np.ndarray | EncodedImage, int]:
        """Return the image and its label like `decode`, but an encoded image as it is in the record."""
        found = self._likely.parse(value) if self._likely is not None else None
        if found is not None:
            return found
        name = record_name(key, self.source)
        annotated = is_annotated(value)
        datum = parsed_annotated(value, name).datum if annotated else parsed_datum(value, name)
        image = self.image_of(datum, name)
        if isinstance(image, np.ndarray) and not annotated:
            self._likely = _form(datum, image.shape)
        return image, datum.label

    def image_of(self, datum: caffe_pb2.Datum, name: str) -> np.ndarray | EncodedImage:
        """Return the image of a Datum, an encoded one as it is; DataError if it holds none.  name: the record."""
        if datum.encoded:
            return EncodedImage(datum.data, self.color, name)
        array = datum_to_array(datum, self.color, name)
        if not array.size:
            raise DataError(f"{name} holds no image")
        return array


def is_annotated(value: bytes | memoryview) -> bool:
    """Return whether a record begins as an AnnotatedDatum does, not as a Datum."""
    return value[:1] == _ANNOTATED


def parsed_annotated(value: bytes | memoryview, name: str) -> caffe_pb2.AnnotatedDatum:
    """Parse a record as an AnnotatedDatum; DataError if it is none, or has no Datum.  name: the record."""
    record = _parsed(caffe_pb2.AnnotatedDatum(), value, name)
    if not record.HasField("datum"):
        raise DataError(
            f"{name} is no AnnotatedDatum with a datum: create_annoset makes databases of images with boxes, layers of "
            "type Data read those of convert_imageset"
        )
    return record


def parsed_datum(value: bytes | memoryview, name: str) -> caffe_pb2.Datum:
    """Parse a record as a Datum; DataError if it is none.  name: the record."""
    return _parsed(caffe_pb2.Datum(), value, name)


def _parsed(message, value: bytes | memoryview, name: str):
    """Parse a record as `message`, and return it."""
    try:
        message.ParseFromString(bytes(value))
    except DecodeError as error:
        kind = type(message).__name__
        raise DataError(f"{name} is no {kind}: {error}") from error
    return message


def record_name(key: bytes, source: str) -> str:
    """Return the name of a record for messages."""
    return f"record {key.decode(errors='replace')!r} of {source}"


def _form(datum: caffe_pb2.Datum, shape: tuple[int, ...]) -> _Pixels | _Floats:
    """Return the form of a record: protobuf writes its fields in the order of their numbers."""
    size = caffe_pb2.Datum(channels=shape[0], height=shape[1], width=shape[2])
    if not datum.data:
        return _Floats(size.SerializeToString(), shape)
    size.data = datum.data
    return _Pixels(size.SerializeToString()[: -len(datum.data)], shape, len(datum.data))


class _Pixels(NamedTuple):
    """Records of uint8 images: the same bytes first, then the pixels, then the label."""

    head: bytes
    shape: tuple[int, ...]
    size: int  #: number of pixels

    def parse(self, value: bytes | memoryview) -> tuple[np.ndarray, int] | None:
        """Return the image, a view of `value`, and the label; None for a record of another form."""
        head, shape, size = self
        start = len(head)
        if len(value) < start + size or value[:start] != head:
            return None
        label = _label_field(value[start + size :])
        return None if label is None else (np.frombuffer(value, np.uint8, size, start).reshape(shape), label)


class _Floats(NamedTuple):
    """Records of floats: the same bytes first, then the label, then one field of five bytes for each value."""

    head: bytes
    shape: tuple[int, ...]

    def parse(self, value: bytes | memoryview) -> tuple[np.ndarray, int] | None:
        """Return the image, float32, and the label; None for a record of another form."""
        count = math.prod(self.shape)
        start, end = len(self.head), len(value) - count * _FLOAT_FIELD.itemsize
        if end < start or value[:start] != self.head:
            return None
        label, fields = _label_field(value[start:end]), np.frombuffer(value, _FLOAT_FIELD, count, end)
        if label is None or (fields["tag"] != _FLOAT_TAG).any():
            return None
        return fields["value"].astype(np.float32).reshape(self.shape), label


def _label_field(tail: bytes | memoryview) -> int | None:
    """Parse the bytes beside the values: the label if they are field 5 of a Datum alone, 0 if empty, otherwise None.

    A label is an int32, written as a number of up to five bytes, or, when it is negative, of ten.
    """
    length = len(tail)
    if length == 2 and tail[0] == 0x28 and tail[1] < 0x80:
        return tail[1]
    if length == 0:
        return 0
    if not (2 < length <= 6 or length == 11 and tail[10] == 1) or tail[0] != 0x28 or tail[length - 1] >= 0x80:
        return None
    number = 0
    for shift, byte in enumerate(bytes(tail[1:])):
        if shift + 2 < length and byte < 0x80:
            return None
        number |= (byte & 0x7F) << (7 * shift)
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number
