"""Weights in Caffe's file formats: .caffemodel, a binary NetParameter, and .caffemodel.h5, HDF5.

Layers are matched by name.  Layers that only one side has are skipped, with a warning if layers of the net get no
weights; a different number of blobs or another shape is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import h5py

from minicaffe import hdf5_file
from minicaffe.core.layer import Layer
from minicaffe.core.memory import Memory
from minicaffe.core.stored_weights import open_weights
from minicaffe.core.transfers import Transfers
from minicaffe.errors import SnapshotError, listed
from minicaffe.files import write_atomically
from minicaffe.proto import caffe_pb2

log = logging.getLogger("minicaffe")


# -- reading -----------------------------------------------------------------------------------------------------------


def load(nets: Sequence, paths: Sequence[str], hdf5: bool | None = None) -> set[Memory]:
    """Copy weights from files, in order, into a net, or into a train net and its test nets; return what was written.

    nets: the nets.  paths: paths of the files.
    hdf5: whether the files are HDF5; None (default): determined from the content of each.

    Logs one warning that names the layers with parameters that got no weights from any file.
    Raises SnapshotError for a file without weights for any layer, and if numbers or shapes of blobs do not match;
    for missing or damaged files, raises as `open_weights` does.
    """
    filled: set[Memory] = set()
    unused: list[str] = []
    for path in paths:
        with open_weights(path, hdf5) as stored:
            used: set[int] = set()
            for net in nets:
                memory, sources = Transfers(net, stored, path).copy()
                filled |= memory
                used |= sources
            full = {i: layer.name for i, layer in enumerate(stored) if layer.blobs}
        if not used & full.keys():
            _check_without_parameters(nets, list(full.values()), path)
        unused += [name for i, name in full.items() if i not in used]
    _warn_of_missing(nets, filled, unused, paths)
    return filled


def _check_without_parameters(nets: Sequence, names: list[str], path: str) -> None:
    """Raise SnapshotError, for a file that no layer has used, if the nets have parameters."""
    layers = [name for name, _ in _parameter_layers(nets)]
    if layers:
        raise SnapshotError(
            f"'{path}': no layer of the net takes weights from it: the net has parameters in {listed(layers)}; "
            f"the file has weights of {listed(names) or 'no layer'}"
        )


def _warn_of_missing(nets: Sequence, filled: set[Memory], unused: list[str], paths: Sequence[str]) -> None:
    layers = list(_parameter_layers(nets))
    missing = [name for name, layer in layers if not all(blob.data_memory in filled for blob in layer.blobs)]
    if missing:
        log.warning(
            "%d of %d layers with parameters took weights from %s; not in the file%s: %s; not in the net: %s",
            len(layers) - len(missing), len(layers), ", ".join(f"'{path}'" for path in paths),
            "s" if len(paths) > 1 else "", listed(missing), listed(unused) or "none",
        )  # fmt: skip


def _parameter_layers(nets: Sequence) -> Iterator[tuple[str, Layer]]:
    """Yield (name, layer) of the layers with parameters, except those that share all parameters with an earlier net."""
    seen: set[Memory] = set()
    for net in nets:
        own = [(n, each) for n, each in zip(net.layer_names, net.layers) if _memory(each) - seen]
        yield from own
        seen.update(*(_memory(each) for _, each in own))


def _memory(layer: Layer) -> set[Memory]:
    return {blob.data_memory for blob in layer.blobs}


# -- writing -----------------------------------------------------------------------------------------------------------


def to_proto(net, write_diff: bool = False):
    """Return the net as a NetParameter: the prototxt of the layers with their blobs.

    write_diff: include the diffs (default: False).
    """
    param = caffe_pb2.NetParameter(name=net.name)
    for layer, bottoms, tops in zip(net.layers, net.names_of_bottoms, net.names_of_tops):
        message = param.layer.add()
        message.CopyFrom(layer.layer_param)
        del message.bottom[:], message.top[:], message.blobs[:]
        message.bottom.extend(bottoms)
        message.top.extend(name for name in tops if name != "(automatic)")
        message.blobs.extend(blob.to_proto(write_diff) for blob in layer.blobs)
    return param


def save_binary(net, path: str, write_diff: bool = False) -> None:
    """Write a .caffemodel; SnapshotError if the file cannot be written.

    write_diff: include the diffs (default: False).
    """
    write_atomically(path, to_binary(net, write_diff), SnapshotError)


def save_hdf5(net, path: str, write_diff: bool = False) -> None:
    """Write a .caffemodel.h5; SnapshotError as `check_hdf5` raises it, and if the file cannot be written.

    write_diff: include the diffs (default: False).
    """
    write_atomically(path, to_hdf5(net, write_diff), SnapshotError)


def to_binary(net, write_diff: bool = False) -> bytes:
    """Return the content of a .caffemodel.

    write_diff: include the diffs (default: False).
    """
    return to_proto(net, write_diff).SerializeToString()


def to_hdf5(net, write_diff: bool = False) -> memoryview:
    """Return the content of a .caffemodel.h5: one group /data/<layer> per layer, with datasets "0", "1", ...

    write_diff: include the diffs, in groups /diff/<layer> (default: False).
    As in Caffe, it holds the data of a shared parameter for its owner only, the diffs for every layer.
    Raises SnapshotError as `check_hdf5` does.
    """
    check_hdf5(net)

    def fill(file: h5py.File) -> None:
        data = file.create_group("data")
        diff = file.create_group("diff") if write_diff else None
        for layer_id, (name, layer) in enumerate(zip(net.layer_names, net.layers)):
            if not name:
                continue
            group = data.require_group(name)
            diff_group = diff.require_group(name) if diff is not None else None
            for j, blob in enumerate(layer.blobs):
                if not net.shared_params.is_shared(layer_id, j):
                    group[str(j)] = blob.read_data()
                if diff_group is not None:
                    diff_group[str(j)] = blob.read_diff()

    return hdf5_file.content(fill)


def check_hdf5(net) -> None:
    """Raise SnapshotError if layer names prevent writing HDF5: they are paths of groups, so they must be unique."""
    owners: dict[str, str] = {}  # path of a dataset -> name of its layer
    for name, layer in zip(net.layer_names, net.layers):
        if not layer.blobs:
            continue
        if not name:
            raise _not_hdf5(f"a layer without a name ({layer.type}, bottom {listed(layer.layer_param.bottom)})")
        if f"{name}/0" in owners:
            raise _not_hdf5(f"two layers with parameters of one name, '{name}'")
        owners.update((f"{name}/{j}", name) for j in range(len(layer.blobs)))
    for name in filter(None, net.layer_names):
        parts = name.split("/")
        if not all(part.strip(".") for part in parts) or "\0" in name:
            raise _not_hdf5(f"a layer of the name '{name}'")
        for owner in (owners.get("/".join(parts[:n])) for n in range(2, len(parts) + 1)):
            if owner is not None:
                raise _not_hdf5(f"a layer '{name}' beside the parameters of layer '{owner}'")


def _not_hdf5(what: str) -> SnapshotError:
    return SnapshotError(
        f"HDF5 cannot hold the weights of {what}: rename it, or write the binary form (snapshot_format: BINARYPROTO)"
    )
