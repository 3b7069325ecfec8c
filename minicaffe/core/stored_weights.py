"""Reading of .caffemodel and .caffemodel.h5 files as lists of layers with blobs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import h5py
import numpy as np

from minicaffe.core import file_kinds
from minicaffe.core.blob import Blob, proto_fits, proto_shape
from minicaffe.errors import SnapshotError
from minicaffe.proto import read_binary_net

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

    def values(self) -> np.ndarray:
        """Return the values; SnapshotError if they cannot be read."""

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
    Raises SnapshotError for a file that is missing or a solver state, SnapshotError or PrototxtError for a damaged one.
    """
    try:
        hdf5 = file_kinds.is_hdf5(path) if hdf5 is None else hdf5
        is_state = file_kinds.is_solver_state(path)
    except OSError as error:
        raise SnapshotError(f"cannot open the weights '{path}': {error.strerror}") from None
    if is_state:
        raise SnapshotError(
            f"'{path}' is a solver state, not weights: resume from it (-snapshot, Solver.restore), or give the "
            ".caffemodel that was written with it"
        )
    if not hdf5:
        yield _layers_of_binary(read_binary_net(path))
        return
    with open_hdf5(path) as file:
        if file.get("data", getclass=True) is not h5py.Group:
            raise SnapshotError(f"'{path}' has no group 'data' as a .caffemodel.h5 has: it holds {sorted(file)}")
        yield _layers_of_hdf5(file["data"], path)


@contextlib.contextmanager
def open_hdf5(path: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; `SnapshotError` if it is missing, truncated or not an HDF5 file."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = "no such file" if not os.path.exists(path) else f"truncated, or not an HDF5 file ({error})"
        raise SnapshotError(f"cannot read '{path}': {reason}") from None
    with file:
        yield file


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

    @property
    def shape(self) -> tuple[int, ...]:
        return proto_shape(self.proto)

    @property
    def count(self) -> int:
        return len(self.proto.double_data or self.proto.data)

    def fits(self, shape: tuple[int, ...]) -> bool:
        return proto_fits(self.proto, shape)

    def values(self) -> np.ndarray:
        return np.asarray(self.proto.double_data or self.proto.data)

    def copy_to(self, blob: Blob) -> None:
        blob.from_proto(self.proto, reshape=False)


def _layers_of_binary(param) -> list[LayerBlobs]:
    """Return the layers of a NetParameter; five-blob BatchNorms that upgrading has split are joined again."""
    layers: list[LayerBlobs] = []
    for each in param.layer:
        blobs = [_ProtoBlob(proto) for proto in each.blobs]
        if each.scale_param.of_batch_norm and layers and layers[-1].type == "BatchNorm":
            layers[-1].blobs.update(enumerate(blobs, BATCH_NORM_BLOBS))
        else:
            layers.append(LayerBlobs(each.name, dict(enumerate(blobs)), each.type, list(each.bottom), list(each.top)))
    return layers


# -- HDF5 --------------------------------------------------------------------------------------------------------------


@dataclass
class _Dataset:
    dataset: h5py.Dataset
    path: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape

    @property
    def count(self) -> int:
        return self.dataset.size

    def fits(self, shape: tuple[int, ...]) -> bool:
        return self.shape == shape or (len(shape) == 1 and self.shape == (1, *shape, 1, 1))  # NVIDIA's older BatchNorm

    def values(self) -> np.ndarray:
        try:
            return self.dataset[()]
        except OSError as error:
            raise SnapshotError(f"cannot read {self.dataset.name} of '{self.path}': {error}") from None

    def copy_to(self, blob: Blob) -> None:
        blob.data = self.values().reshape(blob.shape)


def _layers_of_hdf5(data: h5py.Group, path: str) -> list[LayerBlobs]:
    """Return a layer for each group that contains datasets "0", "1", ..., or nothing.

    A slash in a layer's name creates nested groups.
    """
    layers: list[LayerBlobs] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group):
            blobs = {int(key): _Dataset(each, path) for key, each in item.items() if _is_blob(key, each)}
            if blobs or not len(item):
                layers.append(LayerBlobs(name, blobs, lacks_shared=True))

    data.visititems(visit)
    return layers


def _is_blob(key: str, item: h5py.Group | h5py.Dataset) -> bool:
    return key.isdecimal() and isinstance(item, h5py.Dataset)
