"""Comparison with training runs of Caffe: 25 losses, the weights after them, and the four snapshot files written."""

import pathlib

import h5py
import numpy as np
import pytest

import minicaffe
from helpers import golden
from helpers.engines import needs_bf16
from minicaffe.proto import caffe_pb2
from minicaffe.testing import assert_close, computing_with

FILES = {
    "model_h5": "snap_iter_25.caffemodel.h5",
    "state_h5": "snap_iter_25.solverstate.h5",
    "model_bin": "snap_iter_25.caffemodel",
    "state_bin": "snap_iter_25.solverstate",
}

# BatchNorm cancels the bias of the convolution before it, so the gradient of that bias is rounding error (1e-9).  Rules
# that normalise gradients turn it into full-size updates, which differ between Caffe and minicaffe.  The losses do not
# depend on that bias; they and all other parameters agree.
NORMALISING = ("AdaGrad", "RMSProp", "AdaDelta", "Adam")
MOVED_BY_ROUNDING = (("conv1", 1), ("bn1", 0))


@pytest.fixture
def case(request, tmp_path, monkeypatch):
    """The arrays of a case; its net, data and solver are written to the working directory."""
    monkeypatch.chdir(tmp_path)
    arrays = golden.read(request.param)
    pathlib.Path("net.prototxt").write_text(str(arrays["net"]))
    pathlib.Path("solver.prototxt").write_text(str(arrays["solver"]))
    pathlib.Path("train.txt").write_text("train.h5\n")
    with h5py.File("train.h5", "w") as file:
        file["data"], file["label"] = arrays["data"], arrays["label"]
    return arrays


def solver_at_start(arrays):
    solver = minicaffe.get_solver("solver.prototxt")
    for layer, index, values in golden.params(arrays, "before"):
        solver.net.params[layer][index].data[...] = values
    return solver


def test_the_cases_are_there():
    assert len(golden.SOLVERS) == 42


every_case = pytest.mark.parametrize("case", golden.SOLVERS, ids=lambda path: path.stem, indirect=True)


@every_case
def test_losses_and_weights(case, engine):
    solver = solver_at_start(case)
    losses = []
    for _ in range(25):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    # rounding errors accumulate over the steps: a few times the tolerance of a single pass
    assert_close(losses, case["loss"], "losses", rtol=1e-3, atol=1e-4)
    for layer, index, values in golden.params(case, "after"):
        if solver.type in NORMALISING and (layer, index) in MOVED_BY_ROUNDING:
            continue
        got = solver.net.params[layer][index].data
        assert_close(got, values, f"{layer} {index}", rtol=2e-3, atol=1e-3)


@needs_bf16
@pytest.mark.parametrize("case", golden.SOLVERS[::7], ids=lambda path: path.stem, indirect=True)
def test_losses_in_bf16(case):
    with computing_with("ONEDNN", gpu=False):
        minicaffe.set_precision("bf16")
        solver = solver_at_start(case)
        losses = [float(solver.step(1) or solver.net.blobs["loss"].data) for _ in range(25)]
    assert any(layer.precision == "bf16" for layer in solver.net.layers)
    assert_close(losses, case["loss"], "losses", rtol=5e-2, atol=1e-2)


@every_case
def test_reads_the_originals_snapshots_and_resumes(case):
    for key, name in FILES.items():
        pathlib.Path(name).write_bytes(case[key].tobytes())
    for suffix in ("", ".h5"):
        solver = minicaffe.get_solver("solver.prototxt")
        solver.restore("snap_iter_25.solverstate" + suffix)
        assert solver.iter == 25
        for layer, index, values in golden.params(case, "after"):
            assert_close(solver.net.params[layer][index].data, values, f"{layer} {index}", rtol=1e-3, atol=1e-3)
        assert any(np.any(blob.data) for blob in solver.history)
        solver.step(2)
        assert solver.iter == 27 and np.isfinite(solver.net.blobs["loss"].data)


@pytest.mark.parametrize("case", golden.SOLVERS[:6], ids=lambda path: path.stem, indirect=True)
def test_writes_what_the_original_writes(case):
    """Compare groups, datasets, types and shapes of the HDF5 files, and the fields of the binary files."""
    for key, name in FILES.items():
        pathlib.Path(name).write_bytes(case[key].tobytes())
    solver = minicaffe.get_solver("solver.prototxt")
    solver.restore("snap_iter_25.solverstate.h5")
    solver.param.snapshot_prefix = "ours"
    for snapshot_format in (solver.param.HDF5, solver.param.BINARYPROTO):
        solver.param.snapshot_format = snapshot_format
        solver.snapshot()
    for name in (FILES["model_h5"], FILES["state_h5"]):
        assert hdf5_layout(name.replace("snap", "ours")) == hdf5_layout(name)
    theirs, ours = (
        caffe_pb2.NetParameter.FromString(pathlib.Path(p + "_iter_25.caffemodel").read_bytes())
        for p in ("snap", "ours")
    )
    assert [(a.name, a.type, [b.shape for b in a.blobs]) for a in ours.layer] == [
        (a.name, a.type, [b.shape for b in a.blobs]) for a in theirs.layer
    ]
    theirs, ours = (
        caffe_pb2.SolverState.FromString(pathlib.Path(p + "_iter_25.solverstate").read_bytes())
        for p in ("snap", "ours")
    )
    assert (ours.iter, ours.current_step, len(ours.history)) == (theirs.iter, theirs.current_step, len(theirs.history))


def hdf5_layout(path):
    found = {}

    def visit(name, item):
        found[name] = (
            (item.dtype.kind, item.dtype.itemsize * (item.dtype.kind != "S"), item.shape)
            if isinstance(item, h5py.Dataset)
            else "group"
        )

    with h5py.File(path) as file:
        file.visititems(visit)
    return found
