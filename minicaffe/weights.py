"""Weights in files as the original writes them: .caffemodel, a binary NetParameter, and .caffemodel.h5, HDF5.

Weights find their layers by name.  Layers that only one side has are passed over; a different number of blobs or
another shape is an error that says how to go on.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import h5py
import numpy as np

from minicaffe.blob import proto_fits, proto_shape
from minicaffe.errors import SnapshotError
from minicaffe.files import replacing
from minicaffe.proto import caffe_pb2, read_binary_net

log = logging.getLogger("minicaffe")

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


# -- reading -----------------------------------------------------------------------------------------------------------


def load(net, path: str) -> None:
    """Copy weights into a net.  HDF5 is known by its content."""
    try:
        with open(path, "rb") as file:
            is_hdf5 = file.read(8) == _HDF5_SIGNATURE
    except OSError as error:
        raise SnapshotError(f"cannot open the weights '{path}': {error.strerror}") from None
    if is_hdf5 or path.endswith(".h5"):
        load_hdf5(net, path)
    else:
        copy_trained_layers(net, read_binary_net(path), path)


def copy_trained_layers(net, param, path: str = "the weights") -> None:
    """Copy the blobs of a NetParameter into the layers of the same names."""
    layers = net.layer_dict
    for source in param.layer:
        layer = layers.get(source.name)
        if layer is None:
            log.info("Ignoring source layer %s", source.name)
            continue
        _check_count(path, source.name, len(layer.blobs), len(source.blobs))
        for j, (blob, proto) in enumerate(zip(layer.blobs, source.blobs)):
            if not proto_fits(proto, blob.shape):
                raise _shape_error(path, source.name, j, blob.shape, proto_shape(proto))
            blob.from_proto(proto, reshape=False)


def load_hdf5(net, path: str) -> None:
    """Copy the datasets /data/<layer>/<index> into the layers of the same names."""
    with open_hdf5(path) as file:
        if "data" not in file:
            raise SnapshotError(f"'{path}': expected a group /data as in a .caffemodel.h5, got {sorted(file)}")
        groups = _layer_groups(file["data"])
        for name in groups.keys() - set(net._layer_names):
            log.info("Ignoring source layer %s", name)
        for layer_id, name in enumerate(net._layer_names):
            if name in groups:
                _load_layer(net, layer_id, groups[name], path)


def _layer_groups(data) -> dict[str, h5py.Group]:
    """The group of each layer by name: one that holds datasets, or holds nothing; a slash in a name nests groups."""
    groups: dict[str, h5py.Group] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group) and (not len(item) or any(isinstance(v, h5py.Dataset) for v in item.values())):
            groups[name] = item

    data.visititems(visit)
    return groups


def _load_layer(net, layer_id: int, group, path: str) -> None:
    layer, name = net.layers[layer_id], net._layer_names[layer_id]
    stored = sum(isinstance(item, h5py.Dataset) for item in group.values())
    if stored > len(layer.blobs):
        raise _count_error(path, name, len(layer.blobs), stored)
    params = net.shared_params
    for j, blob in enumerate(layer.blobs):
        if str(j) not in group:
            index = params.layer_of.index((layer_id, j))
            if params.owner_of[index] is None:
                raise SnapshotError(f"'{path}': layer '{name}' lacks its parameter {j} of shape {blob.shape}")
            continue
        dataset = group[str(j)]
        if dataset.shape != blob.shape:
            raise _shape_error(path, name, j, blob.shape, dataset.shape)
        blob.data = _read(dataset, path)


def _check_count(path: str, name: str, expected: int, got: int) -> None:
    if expected != got:
        raise _count_error(path, name, expected, got)


def _count_error(path: str, name: str, expected: int, got: int) -> SnapshotError:
    return SnapshotError(
        f"'{path}': layer '{name}' has another number of blobs: the net expects {expected}, the file has {got}"
    )


def _shape_error(path: str, name: str, j: int, expected, got) -> SnapshotError:
    return SnapshotError(
        f"'{path}': cannot copy param {j} weights of layer '{name}': shape mismatch: the net expects "
        f"{tuple(expected)}, the file has {tuple(got)}. To learn this layer's parameters from scratch rather than "
        f"copy them, rename the layer"
    )


# -- writing -----------------------------------------------------------------------------------------------------------


def to_proto(net, write_diff: bool = False):
    """The net as a NetParameter: the layers' prototxt with their blobs."""
    param = caffe_pb2.NetParameter(name=net.name)
    for layer, bottoms, tops in zip(net.layers, net._bottom_names, net._top_names):
        message = param.layer.add()
        message.CopyFrom(layer.layer_param)
        del message.bottom[:], message.top[:], message.blobs[:]
        message.bottom.extend(bottoms)
        message.top.extend(name for name in tops if name != "(automatic)")
        message.blobs.extend(blob.to_proto(write_diff) for blob in layer.blobs)
    return param


def save_binary(net, path: str, write_diff: bool = False) -> None:
    """Write a .caffemodel."""
    with replacing(path, SnapshotError) as temporary, open(temporary, "wb") as file:
        file.write(to_proto(net, write_diff).SerializeToString())


def save_hdf5(net, path: str, write_diff: bool = False) -> None:
    """Write a .caffemodel.h5: a group /data/<layer> for every layer, datasets "0", "1", ...; /diff likewise.

    Shared parameters are written with their owner alone.
    """
    params = net.shared_params
    owned = {at for at, owner in zip(params.layer_of, params.owner_of) if owner is None}
    with replacing(path, SnapshotError) as temporary, h5py.File(temporary, "w", libver="earliest") as file:
        data = file.create_group("data")
        diff = file.create_group("diff") if write_diff else None
        for layer_id, (name, layer) in enumerate(zip(net._layer_names, net.layers)):
            group = data.require_group(name or "(unnamed)")
            diff_group = diff.require_group(name or "(unnamed)") if write_diff else None
            if layer.blobs and "0" in group:
                raise SnapshotError(f"cannot write '{path}': two layers with parameters have the name '{name}'")
            for j, blob in enumerate(layer.blobs):
                if (layer_id, j) in owned:
                    group[str(j)] = blob.read_data()
                    if write_diff:
                        diff_group[str(j)] = blob.read_diff()


# -- HDF5 ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_hdf5(path: str) -> Iterator[h5py.File]:
    """An HDF5 file for reading; `SnapshotError` with its name when it is missing, cut off or no HDF5."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = "no such file" if not os.path.exists(path) else f"truncated, or not an HDF5 file ({error})"
        raise SnapshotError(f"cannot read '{path}': {reason}") from None
    with file:
        yield file


def _read(dataset, path: str) -> np.ndarray:
    try:
        return dataset[()]
    except OSError as error:
        raise SnapshotError(f"cannot read {dataset.name} of '{path}': {error}") from None
