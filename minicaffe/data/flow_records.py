"""Databases of picture pairs with flow, as FlowNet 2.0's tools write them.

A record is a Datum whose channels are in slices, each stored in its own way: bytes, 16-bit integers, or bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from minicaffe.data.datum import record_name
from minicaffe.data.db import open_db
from minicaffe.data.reader import ALL, EntryReader, Share
from minicaffe.data.shuffle import Rounds
from minicaffe.data.transformer import BatchTransformer
from minicaffe.data.workers import in_turn
from minicaffe.errors import DataError
from minicaffe.files import read_bytes
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2

UINT8, UINT16FLOW, BOOL1 = 1, 2, 3  #: DataParameter.CHANNELENCODING
_UNKNOWN = 32767  #: a 16-bit number that means nan
_FLOW_UNIT = 32.0


class Slices(NamedTuple):
    """Where the slices of channels begin, the first excepted, and how they are stored, bytes where nothing is given."""

    points: tuple[int, ...]
    encodings: tuple[int, ...]

    def of(self, channels: int) -> list[slice]:
        """The slices of an image; DataError unless they ascend and end before `channels`."""
        edges = [0, *self.points, channels]
        if any(a >= b for a, b in zip(edges, edges[1:])):
            raise DataError(
                f"slice_point {list(self.points)} must ascend, from 1 to the channels of a record, {channels}"
            )
        return [slice(a, b) for a, b in zip(edges, edges[1:])]

    def decode(self, datum: caffe_pb2.Datum, name: str) -> np.ndarray:
        """Return the channels of a Datum, (C, H, W) in float32.  name: the record, for errors."""
        shape, size = (datum.channels, datum.height, datum.width), datum.height * datum.width
        if min(shape) < 1:
            raise DataError(f"{name} has the size {shape}")
        image, data, at = np.empty((shape[0], size), np.float32), datum.data, 0
        if datum.float_data:
            if self.encodings or len(datum.float_data) != image.size:
                raise DataError(f"{name} has {len(datum.float_data)} floats: expected {image.size}, and no encoding")
            return np.array(datum.float_data, np.float32).reshape(shape)
        slices = self.of(shape[0])
        for part, encoding in zip(slices, (*self.encodings, *[UINT8] * len(slices))):
            rows = part.stop - part.start
            length = {UINT8: size, UINT16FLOW: 2 * size, BOOL1: -(-size // 8)}[encoding] * rows
            values = np.frombuffer(data[at : at + length], np.uint8)
            if len(values) != length:
                raise DataError(f"{name} has {len(data)} bytes, too few for its size {shape} with these encodings")
            image[part] = _values(values.reshape(rows, -1), encoding, size)
            at += length
        if at != len(data):
            raise DataError(f"{name} has {len(data)} bytes, expected {at} for its size {shape} with these encodings")
        return image.reshape(shape)


def _values(stored: np.ndarray, encoding: int, size: int) -> np.ndarray:
    if encoding == UINT16FLOW:
        numbers = stored.view("<i2")
        return np.where(numbers == _UNKNOWN, np.nan, numbers / np.float32(_FLOW_UNIT))
    return np.unpackbits(stored, 1, size, "little") if encoding == BOOL1 else stored


class SlicedImage(NamedTuple):
    """A record that any thread may decode."""

    datum: caffe_pb2.Datum
    slices: Slices
    name: str

    def pixels(self) -> np.ndarray:
        return self.slices.decode(self.datum, self.name)


class Selection(NamedTuple):
    """Which entries of a database, in the order of its keys, and in which order.

    labels: path of a file with a number for each entry, of which those that are `label` are selected; "": all are.
    first, last: the range of what is selected; -1 for the end.  seed: of a fixed random order, 0: none.
    range_first: whether the range is taken before they are put in order.
    """

    labels: str = ""
    label: int = 0
    first: int = 0
    last: int = -1
    seed: int = 0
    range_first: bool = False

    def entries(self, count: int) -> np.ndarray:
        """The numbers of the entries, of `count`; DataError if there are none, or another number of labels."""
        entries = np.arange(count)
        if self.labels:
            entries = np.flatnonzero(self._read_labels(count) == self.label)
        end = len(entries) if self.last < 0 else min(self.last + 1, len(entries))
        chosen = slice(max(0, self.first), end)
        if self.range_first:
            entries = self._ordered(entries[chosen])
        else:
            entries = self._ordered(entries)[chosen]
        if not len(entries):
            raise DataError(f"no record is left of {count}: range {self.first} to {self.last} of label {self.label}")
        return entries

    def _ordered(self, entries: np.ndarray) -> np.ndarray:
        return Stream(self.seed).generator().permutation(entries) if self.seed else entries

    def _read_labels(self, count: int) -> np.ndarray:
        try:
            labels = np.array([int(word) for word in read_bytes(self.labels).split()])
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read preselection_file {self.labels}: {error}") from None
        if len(labels) != count:
            raise DataError(f"preselection_file {self.labels} has {len(labels)} labels, the database {count} records")
        return labels


class SlicedReader(EntryReader):
    """Reader of the selected records of a database.

    order: seed of a new order in each pass; None: that of the selection.  DataError for an empty database.
    """

    def __init__(
        self, source: str, backend: int, batch_size: int, slices: Slices, selection: Selection, order: int | None,
        share: Share = ALL,
    ) -> None:  # fmt: skip
        self.source, self._slices = source, slices
        self._database = open_db(source, backend)
        self._keys = self._database.keys()
        if not self._keys:
            raise DataError(f"database {source} holds no records")
        self._entries = selection.entries(len(self._keys))
        super().__init__(batch_size, Rounds(len(self._entries), order), share)

    def load(self, entry: int) -> tuple[SlicedImage, int]:
        key = self._keys[self._entries[entry]]
        datum = caffe_pb2.Datum()
        try:
            datum.ParseFromString(bytes(self._database.get(key)))
        except DecodeError as error:
            raise DataError(f"{record_name(key, self.source)} is no Datum: {error}") from error
        return SlicedImage(datum, self._slices, record_name(key, self.source)), datum.label

    def name_of(self, record: int) -> str:
        return record_name(self._keys[self._entries[record]], self.source)


class SlicedTransformer(BatchTransformer):
    """Subtracts the mean, scales, and cuts the channels into the tops of a layer.

    param: a TransformationParameter with no more than mean_file, mean_value and scale.
    """

    on_host_only = True  # type: ignore[assignment]  # of any parameters

    def __init__(self, param, slices: Slices, rng: Stream) -> None:
        super().__init__(param, False, rng)
        self._slices = slices

    def apply(self, images, labels, dtype, each=in_turn, name=lambda i: f"image {i}"):
        """Return the slices, (N, c, H, W) each, and the labels, (N,)."""
        whole, labels = super().apply(images, labels, dtype, each, name)
        return (*(whole[:, part] for part in self._slices.of(whole.shape[1])), labels)
