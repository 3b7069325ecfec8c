"""Snapshots and stops within a test: a resumed run repeats the test and equals an uninterrupted run bit for bit."""

import h5py
import numpy as np
import pytest

import minicaffe
from minicaffe.solvers import Keeper

NET = """
layer { name: "data" type: "HDF5Data" top: "x" top: "t" include { phase: TRAIN }
        hdf5_data_param { source: "train.txt" batch_size: 5 shuffle: true } }
layer { name: "data" type: "HDF5Data" top: "x" top: "t" include { phase: TEST }
        hdf5_data_param { source: "train.txt" batch_size: 4 shuffle: true } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "drop" type: "Dropout" bottom: "y" top: "y" }
layer { name: "noise" type: "DummyData" top: "noise" include { phase: TEST }
        dummy_data_param { shape { dim: 4 } data_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" test_iter: 3 test_iter: 3 test_interval: 4 test_state {} test_state {} base_lr: 0.05 momentum: 0.9
lr_policy: "fixed" average_loss: 3 display: 1 max_iter: 12 snapshot_prefix: "s" random_seed: 5 snapshot_format: %s
"""


class Record:
    """Observer: every test score and displayed loss, by iteration; a later one replaces an earlier one."""

    def __init__(self):
        self.seen = {}

    def on_test(self, solver, net_id, scores):
        self.seen["test", solver.iter, net_id] = scores

    def on_display(self, solver, loss, outputs):
        self.seen["display", solver.iter] = loss, outputs


@pytest.fixture(params=["HDF5", "BINARYPROTO"])
def build(request, tmp_path, monkeypatch):
    """A function that builds the solver, with a Keeper; it has an attribute `record`."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with h5py.File("train.h5", "w") as file:
        file["x"], file["t"] = rng.standard_normal((17, 4)), rng.standard_normal((17, 3))
    (tmp_path / "train.txt").write_text("train.h5\n")
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER % request.param)

    def made(record):
        solver = minicaffe.get_solver("solver.prototxt")
        solver.observers += [record, Keeper(solver, best="loss")]
        return solver

    return made


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if "_iter_12" in path.name or "best" in path.name}


@pytest.fixture
def whole(build, tmp_path):
    """Everything that an uninterrupted run displays, and the files it leaves."""
    record = Record()
    build(record).solve()
    found = record.seen, files(tmp_path)
    for name in found[1]:
        (tmp_path / name).unlink()
    return found


def requests(at, what):
    """An action that returns `what` at call number `at` (from 0), None otherwise."""
    calls = iter(range(10**6))
    return lambda: what if next(calls) == at else None


# `action` is called in the tests before training (0 to 5), after four iterations (6 to 9), in the tests of iteration 4
# (10 to 15), and so on; the tests after the last iteration (30 to 35) begin when the last snapshot is written.
@pytest.mark.parametrize("at", [2, 10, 11, 13, 15])
@pytest.mark.parametrize("what", ["stop", "snapshot"])
def test_a_resumed_run_repeats_the_test(build, whole, tmp_path, at, what):
    record = Record()
    begun = build(record)
    begun.action = requests(at, what)
    begun.step(5) if what == "snapshot" else begun.solve()
    resumed = build(record)
    assert resumed.restore_newest() == begun.last_state and resumed.iter == (0 if at < 6 else 4)
    resumed.solve()
    assert record.seen == whole[0]
    assert files(tmp_path) == whole[1]


@pytest.mark.parametrize("what", ["stop", "snapshot"])
def test_requests_within_the_last_test(build, whole, tmp_path, what):
    record = Record()
    begun = build(record)
    begun.action = requests(34, what)
    begun.solve()
    if what == "stop":
        assert begun.stopped
        resumed = build(record)
        resumed.restore_newest()
        resumed.solve()
    assert record.seen == whole[0]
    assert files(tmp_path) == whole[1]


def test_python_goes_on_after_a_stop(build):
    solver = build(Record())
    solver.action = requests(10, "stop")
    solver.step(9)
    assert solver.stopped and solver.iter == 4 and solver.tests.before is not None
    solver.step(5)
    assert not solver.stopped and solver.iter == 9 and solver.tests.before is None
