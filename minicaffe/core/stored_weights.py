"""Reading of .caffemodel and .caffemodel.h5 files as lists of layers with blobs."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from minicaffe import limits
from minicaffe.core import file_kinds
from minicaffe.core.blob import MAX_AXES, Blob, proto_fits, proto_shape
from minicaffe.errors import SnapshotError
from minicaffe.hdf5_file import Dataset, Hdf5File, opened
from minicaffe.proto import read_binary_net

_INDEX = re.compile("0|[1-9][0-9]{0,8}")  #: name of a dataset that is a blob

BATCH_NORM_BLOBS = 3  #: mean, variance and their factor; in NVIDIA's Caffe followed by scale and shift


class StoredBlob(Protocol):
    """One parameter blob in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the blob."""

    @property
    def count(self) -> int:
        """Number of values stored, which may differ from the product of `shape` in a damaged file."""

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the blob has this shape, or an equivalent legacy shape."""

    def check(self) -> None:
        """Raise SnapshotError unless these are numbers, as many as the shape has; reads no values of an HDF5 file."""

    def values(self) -> np.ndarray:
        """Return the values in their shape; SnapshotError as for `check`, or if they cannot be read."""

    def copy_to(self, blob: Blob) -> None:
        """Copy the values to a blob whose shape fits."""


@dataclass
class LayerBlobs:
    """A layer in a file or in a net, with its blobs; HDF5 files have neither types nor bottoms nor tops."""

    name: str
    blobs: dict[int, Any]  #: by index: StoredBlobs of a file, Blobs of a net
    type: str = ""
    bottom: list[str] = field(default_factory=list)
    top: list[str] = field(default_factory=list)
    lacks_shared: bool = False  #: True in HDF5 files, where only the owner of a shared parameter contains it


@contextlib.contextmanager
def open_weights(path: str, hdf5: bool | None = None) -> Iterator[list[LayerBlobs]]:
    """Open a file of weights; yield its layers, whose blobs can be read inside the `with` block.

    hdf5: whether the file is HDF5; None (default): determined from its content.
    Raises SnapshotError for a file that is missing, a solver state or a blob, SnapshotError or PrototxtError for a
    damaged one.
    """
    try:
        hdf5 = file_kinds.is_hdf5(path) if hdf5 is None else hdf5
        is_binary_state = not hdf5 and file_kinds.is_solver_state(path)
        is_blob = not hdf5 and file_kinds.is_blob(path)
    except OSError as error:
        raise SnapshotError(f"cannot open the weights '{path}': {error.strerror}") from None
    if is_binary_state:
        raise _is_state(path)
    if is_blob:
        raise SnapshotError(f"'{path}' is a mean or another blob, not weights: give a .caffemodel or .caffemodel.h5")
    if not hdf5:
        yield _layers_of_binary(read_binary_net(path), path)
        return
    with opened(path, SnapshotError) as file:
        if file_kinds.is_solver_state(file):
            raise _is_state(path)
        if not file_kinds.is_weights(file):
            raise SnapshotError(f"'{path}' has no group 'data' as a .caffemodel.h5 has: it holds {file.names()}")
        yield _layers_of_hdf5(file)


def _is_state(path: str) -> SnapshotError:
    return SnapshotError(
        f"'{path}' is a solver state, not weights: resume from it (-snapshot, Solver.restore), or give the "
        ".caffemodel that was written with it"
    )


def layers_of(net) -> list[LayerBlobs]:
    """Return the layers of a net as LayerBlobs."""
    parts = zip(net.layer_names, net.layers, net.names_of_bottoms, net.names_of_tops)
    return [LayerBlobs(name, dict(enumerate(each.blobs)), each.type, bottom, top) for name, each, bottom, top in parts]


def scale_behind(layers: Sequence[LayerBlobs], i: int) -> int | None:
    """Return the index of the Scale with two blobs (scale, shift) that reads the top of BatchNorm `i`, or None.

    In a file without bottoms and tops, only the layer right after the BatchNorm is considered.
    """
    top = layers[i].top[:1]
    readers = [k for k in range(i + 1, len(layers)) if not top or top[0] in layers[k].bottom]
    if not readers:
        return None
    first = layers[readers[0]]
    alone = not top or first.top == top or len(readers) == 1
    return readers[0] if first.type == "Scale" and len(first.blobs) == 2 and first.bottom == top and alone else None


# -- binary ------------------------------------------------------------------------------------------------------------


@dataclass
class _ProtoBlob:
    proto: Any
    place: str  #: the file, layer and index, for messages

    @property
    def shape(self) -> tuple[int, ...]:
        return proto_shape(self.proto)

    @property
    def count(self) -> int:
        return len(self.proto.double_data or self.proto.data)

    def fits(self, shape: tuple[int, ...]) -> bool:
        return proto_fits(self.proto, shape)

    def check(self) -> None:
        if len(self.shape) > MAX_AXES:
            raise SnapshotError(f"{self.place} has {len(self.shape)} axes, more than {MAX_AXES}")
        if min(self.shape, default=0) < 0 or self.count != math.prod(self.shape):
            raise SnapshotError(f"{self.place} has {self.count} numbers, not {self.shape}")

    def values(self) -> np.ndarray:
        self.check()
        return np.asarray(self.proto.double_data or self.proto.data).reshape(self.shape)

    def copy_to(self, blob: Blob) -> None:
        blob.from_proto(self.proto, reshape=False)


def _layers_of_binary(param, path: str) -> list[LayerBlobs]:
    """Return the layers of a NetParameter; five-blob BatchNorms that upgrading has split are joined again."""
    layers: list[LayerBlobs] = []
    for each in param.layer:
        blobs = [_ProtoBlob(proto, f"'{path}': param {j} of layer '{each.name}'") for j, proto in enumerate(each.blobs)]
        if each.scale_param.of_batch_norm and layers and layers[-1].type == "BatchNorm":
            layers[-1].blobs.update(enumerate(blobs, BATCH_NORM_BLOBS))
        else:
            layers.append(LayerBlobs(each.name, dict(enumerate(blobs)), each.type, list(each.bottom), list(each.top)))
    return layers


# -- HDF5 --------------------------------------------------------------------------------------------------------------


@dataclass
class StoredDataset:
    """A StoredBlob that is a dataset of an HDF5 file."""

    file: Hdf5File
    dataset: Dataset

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape

    @property
    def count(self) -> int:
        return self.dataset.count

    def fits(self, shape: tuple[int, ...]) -> bool:
        return self.shape == shape or (len(shape) == 1 and self.shape == (1, *shape, 1, 1))  # NVIDIA's older BatchNorm

    def check(self) -> None:
        if self.count > limits.MAX_COUNT:
            raise self.file.error(self.dataset, f"has {self.count} values, more than a blob may have")
        self.file.check_numbers(self.dataset)

    def values(self) -> np.ndarray:
        self.check()
        return self.file.numbers(self.dataset)

    def copy_to(self, blob: Blob) -> None:
        blob.data = self.values().reshape(blob.shape)


def _layers_of_hdf5(file: Hdf5File) -> list[LayerBlobs]:
    """Return a layer for each group inside /data that contains datasets "0", "1", ..., or nothing.

    A slash in a layer's name creates nested groups.
    """
    layers: list[LayerBlobs] = []
    for name, members in file.groups("data").items():
        blobs = {
            int(key): StoredDataset(file, each)
            for key, each in members.items()
            if isinstance(each, Dataset) and _INDEX.fullmatch(key)
        }
        if blobs or not members:
            layers.append(LayerBlobs(name, blobs, lacks_shared=True))
    return layers


# -- values of a program -----------------------------------------------------------------------------------------------


@dataclass
class StoredArray:
    """A StoredBlob of values that a layer has computed from those of a file (`Layer.adapted`)."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def count(self) -> int:
        return self.array.size

    def fits(self, shape: tuple[int, ...]) -> bool:
        return self.shape == tuple(shape)

    def check(self) -> None:
        pass

    def values(self) -> np.ndarray:
        return self.array

    def copy_to(self, blob: Blob) -> None:
        blob.data = self.array
