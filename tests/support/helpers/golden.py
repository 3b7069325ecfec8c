"""The cases that the original Caffe computed (tests/golden/), on the CPU in float32."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from helpers.nets import net_from_text
from minicaffe import Net
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.testing import assert_close

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
#: layers: one file for each case, TYPE-NUMBER.npz; solvers: solver-NUMBER-TYPE.npz
LAYERS, SOLVERS = (sorted((GOLDEN / folder).glob("*.npz")) for folder in ("layers", "solvers"))
#: cases that the SSD fork computed, with the same keys; besides: "tags", "file:NAME" and "written:NAME", the bytes of
#: files that the net reads and writes in the working directory
SSD = sorted((GOLDEN / "ssd").glob("**/*.npz"))

Arrays = dict[str, np.ndarray]


def read(path: pathlib.Path) -> Arrays:
    """The arrays of a case; keys are "kind:blob" or "kind:layer:index", texts are arrays as well."""
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def layer_types(path: pathlib.Path) -> list[str]:
    """The types in the prototxt of a layer case, without Input, which computes nothing."""
    with np.load(path) as stored:
        param = parse_text(str(stored["prototxt"]), caffe_pb2.NetParameter())
    return [layer.type for layer in param.layer if layer.type != "Input"]


def values(case: Arrays, kind: str) -> Iterator[tuple[str, np.ndarray]]:
    """(blob name, values) of a kind."""
    for key, array in case.items():
        if key.startswith(kind + ":"):
            yield key.split(":", 1)[1], array


def params(case: Arrays, kind: str) -> Iterator[tuple[str, int, np.ndarray]]:
    """(layer name, index of the parameter, values) of a kind."""
    for key, array in values(case, kind):
        layer, index = key.rsplit(":", 1)
        yield layer, int(index), array


def run_layer_case(path: pathlib.Path, **tolerance: float) -> None:
    """Replay a case of a layer: outputs, parameters and files afterwards, then all diffs of a backward pass.

    tolerance: `rtol` and `atol` of `assert_close`.
    """
    case = read(path)
    net = filled_net(case)
    net.forward()
    for blob, array in values(case, "out"):
        assert_close(net.blobs[blob].data, array, f"top {blob}", **tolerance)
    for layer, index, array in params(case, "param_after"):
        assert_close(net.params[layer][index].data, array, f"parameter {index} of {layer} after forward", **tolerance)
    for name, array in values(case, "written"):
        assert pathlib.Path(name).read_text().split() == array.tobytes().decode().split(), name
    if any(key.startswith(("indiff:", "paramdiff:")) for key in case):
        _backward(net, case, **tolerance)


def filled_net(case: Arrays) -> Net:
    """The net of a case with its parameters and inputs."""
    write_files(case)
    net = net_from_text(str(case["prototxt"]), {"TRAIN": 0, "TEST": 1}[str(case["phase"])])
    for layer, index, array in params(case, "param"):
        net.params[layer][index].data[...] = array
    for blob, array in values(case, "in"):
        net.blobs[blob].data[...] = array
    return net


def write_files(case: Arrays) -> None:
    """Write the files that the net of a case reads into the working directory."""
    for name, array in values(case, "file"):
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(name).write_bytes(array.tobytes())


def _backward(net: Net, case: Arrays, **tolerance: float) -> None:
    for blob, array in values(case, "topdiff"):
        net.blobs[blob].diff[...] = array
    net.clear_param_diffs()
    net.backward()
    for blob, array in values(case, "indiff"):
        assert_close(net.blobs[blob].diff, array, f"diff of {blob}", **tolerance)
    for layer, index, array in params(case, "paramdiff"):
        assert_close(net.params[layer][index].diff, array, f"diff of parameter {index} of {layer}", **tolerance)
