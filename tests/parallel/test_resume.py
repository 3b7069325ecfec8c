"""Snapshots of several ranks: one run state for all, exact resume by as many ranks, and resume by other numbers."""

import json
import logging

import h5py
import numpy as np
import pytest

import minicaffe
from helpers.ranks import run_ranks
from helpers.readers import write_images
from minicaffe.core.settings import settings
from minicaffe.errors import SnapshotError

NET = """
layer { name: "memory" type: "MemoryData" top: "m" top: "unused"
        memory_data_param { batch_size: 3 channels: 2 height: 1 width: 1 } }
layer { name: "rows" type: "HDF5Data" top: "x" top: "t"
        hdf5_data_param { source: "rows.txt" batch_size: 3 shuffle: true } }
layer { name: "images" type: "Data" top: "image" transform_param { crop_size: 3 mirror: true scale: 0.01 }
        data_param { source: "db" backend: LMDB batch_size: 3 shuffle: true } }
layer { name: "ordered" type: "Data" top: "other" transform_param { scale: 0.01 }
        data_param { source: "db" backend: LMDB batch_size: 3 } }
layer { name: "noise" type: "DummyData" top: "n"
        dummy_data_param { shape { dim: 3 dim: 2 } data_filler { type: "gaussian" } } }
layer { name: "flat" type: "Flatten" bottom: "image" top: "image1" }
layer { name: "flat2" type: "Flatten" bottom: "other" top: "other1" }
layer { name: "flat3" type: "Flatten" bottom: "m" top: "m1" }
layer { name: "all" type: "Concat" bottom: "x" bottom: "image1" bottom: "other1" bottom: "m1" bottom: "n"
        top: "features" }
layer { name: "ip" type: "InnerProduct" bottom: "features" top: "y"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "y" top: "y" }
layer { name: "ip2" type: "InnerProduct" bottom: "y" top: "z"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "loss" }
layer { name: "silence" type: "Silence" bottom: "unused" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.002 momentum: 0.9 lr_policy: "step" stepsize: 3 gamma: 0.5 average_loss: 3 max_iter: 8
snapshot: 3 snapshot_prefix: "s" random_seed: 5
"""


class Counting:
    """Observer with a state, which is part of the run state of its rank."""

    def __init__(self):
        self.losses = []

    def on_iteration(self, solver, loss):
        self.losses.append(loss)

    def run_state(self):
        return self.losses

    def load_run_state(self, state):
        self.losses = state


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with h5py.File("a.h5", "w") as file:
        file["x"], file["t"] = rng.standard_normal((11, 4)), rng.standard_normal((11, 2))
    (tmp_path / "rows.txt").write_text("a.h5\n")
    write_images("db", rng.integers(0, 256, (7, 1, 4, 4), dtype=np.uint8))
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)


def build(rank):
    solver = minicaffe.get_solver("solver.prototxt")
    own = np.random.default_rng(rank)
    solver.net.set_input_arrays(own.random((6, 2, 1, 1), np.float32), np.zeros(6, np.float32))
    solver.observers.append(Counting())
    return solver


def condition(solver):
    """Everything that a run leaves in a rank."""
    blobs = [*solver.net.learnable_params, *solver.history]
    states = [layer.state() for layer in solver.net.layers]
    values = [blob.read_data().tolist() for blob in blobs]
    return solver.iter, solver.current_step, solver.losses, solver.observers[0].losses, states, values


def straight(group):
    solver = build(group.rank)
    solver.solve()
    return condition(solver)


def resumed(iteration, ranks):
    """Work that resumes; ranks: those that call `restore`."""

    def work(group):
        solver = build(group.rank)
        if group.rank in ranks:
            solver.restore(f"s_iter_{iteration}.solverstate")
        solver.solve()
        return condition(solver)

    return work


@pytest.mark.parametrize("size", [2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(size):
    expected = run_ranks(size, straight)
    assert len({json.dumps(each[4]) for each in expected}) == size  # their random numbers differ
    for iteration, ranks in ((3, range(size)), (6, [0])):
        assert run_ranks(size, resumed(iteration, ranks)) == expected


def test_one_file_has_the_run_states_of_all_ranks(tmp_path):
    expected = run_ranks(3, straight)
    run = json.loads((tmp_path / "s_iter_8.runstate").read_text())
    assert list(run) == ["nets", "losses", "observers", "ranks"] and len(run["ranks"]) == 2
    for state, each in zip([run, *run["ranks"]], expected):
        assert [layer for _, layer in state["nets"][0]] == json.loads(json.dumps(each[4]))
        assert state["losses"] == each[2]
    assert len(list(tmp_path.glob("s_iter_8*"))) == 3


def test_a_restored_state_within_a_run():
    """Only the root restores, between two calls of `step`, and in an observer; the others get its state."""

    def work(group):
        solver = build(group.rank)
        solver.step(4)
        if group.root:
            solver.restore("s_iter_3.solverstate")
        solver.step(5)
        return condition(solver)

    def within(group):
        solver = build(group.rank)
        solver.observers.append(Returning(solver))
        solver.solve()
        return solver.iter, solver.net.params["ip"][0].data.tolist()

    assert run_ranks(2, work) == run_ranks(2, straight)
    one, other = run_ranks(2, within)
    assert one == other and one[0] == 8


class Returning:
    """Observer that restores an earlier snapshot once, at the root."""

    def __init__(self, solver):
        self.done = not solver.ranks.root

    def on_iteration(self, solver, loss):
        if solver.iter == 5 and not self.done:
            self.done = True
            solver.restore("s_iter_3.solverstate")


def reading(group):
    """The labels that a rank trains on."""
    solver = minicaffe.get_solver("solver.prototxt")
    own = np.random.default_rng(group.rank)
    solver.net.set_input_arrays(own.random((6, 2, 1, 1), np.float32), np.zeros(6, np.float32))
    seen = []
    solver.add_callback(lambda: None, lambda: seen.append(solver.net.blobs["x"].data.tolist()))
    return solver, seen


@pytest.mark.parametrize("before, after", [(1, 2), (2, 1), (3, 2), (2, 4)])
def test_another_number_of_ranks_continues_the_data(before, after, caplog):
    """Rows come in one order, and rows of a pass are read once, whatever the number of ranks before and after."""

    def first(group):
        solver, seen = reading(group)
        solver.step(3)
        solver.solve() if solver.iter > 3 else solver.snapshot()
        return np.array(seen)

    def second(group):
        solver, seen = reading(group)
        solver.restore("s_iter_3.solverstate")
        solver.step(2)
        return np.array(seen)

    def in_order(ranks):
        return np.stack([each.reshape(-1, 4) for each in ranks], axis=1).reshape(-1, 4)

    with caplog.at_level(logging.INFO, "minicaffe"):
        rows = np.concatenate([in_order(run_ranks(before, first)), in_order(run_ranks(after, second))])
    np.testing.assert_array_equal(rows, in_order(run_ranks(1, lambda group: long_run(group, len(rows))))[: len(rows)])
    lines = [line for line in caplog.messages if "the data continue where all ranks had read to" in line]
    assert len(lines) == 1 and f"of {before} rank" in lines[0] and f"has {after}" in lines[0]
    assert ("above start anew" in lines[0]) == (after > before)


def long_run(group, rows):
    solver, seen = reading(group)
    solver.step(-(-rows // 3))
    return np.array(seen)


def test_a_rank_that_joins_has_random_numbers_of_its_own():
    run_ranks(2, straight)

    def work(group):
        solver = build(group.rank)
        drop = solver.net.layers[list(solver.net.layer_names).index("drop")]
        fresh = drop.state()
        solver.restore("s_iter_3.solverstate")
        solver.step(0)
        return fresh == drop.state(), drop.state()

    states = run_ranks(3, work)
    assert [fresh for fresh, _ in states] == [False, False, True]
    assert len({json.dumps(state) for _, state in states}) == 3


def test_a_rank_without_a_group_reads_its_own_part(tmp_path):
    """As in the original's train.py, where each solver restores before it is connected with the others."""
    run_ranks(2, straight)
    run = json.loads((tmp_path / "s_iter_3.runstate").read_text())
    try:
        for rank, saved in enumerate([run, *run["ranks"]]):
            settings.solver_rank, settings.solver_count = rank, 2
            solver = build(rank)
            solver.restore("s_iter_3.solverstate")
            states = [(layer.name, layer.state()) for layer in solver.net.layers]
            assert json.loads(json.dumps(states)) == saved["nets"][0]
    finally:
        settings.solver_rank, settings.solver_count = 0, 1


@pytest.mark.parametrize("ranks", [3, [{}], ["x"], [{"nets": 1}], [{"nets": [], "losses": 3}], None])
def test_damaged_states_of_other_ranks(tmp_path, ranks):
    run_ranks(2, straight)
    path = tmp_path / "s_iter_3.runstate"
    path.write_text(json.dumps({**json.loads(path.read_text()), "ranks": ranks}))
    remove_digests(tmp_path / "s_iter_3.solverstate")
    with pytest.raises(SnapshotError, match="s_iter_3.runstate"):
        build(0).restore("s_iter_3.solverstate")


def test_a_wrong_state_of_a_layer_is_an_error_of_its_rank(tmp_path):
    run_ranks(2, straight)
    path = tmp_path / "s_iter_3.runstate"
    run = json.loads(path.read_text())
    run["ranks"][0]["nets"][0][0][1]["rng"] = 3
    path.write_text(json.dumps(run))
    remove_digests(tmp_path / "s_iter_3.solverstate")

    def work(group):
        solver = build(group.rank)
        solver.restore("s_iter_3.solverstate")
        if group.root:
            solver.step(0)
            return
        with pytest.raises(SnapshotError, match="s_iter_3.runstate': layer 'memory'"):
            solver.step(0)

    run_ranks(2, work)


def remove_digests(path):
    from minicaffe.proto import caffe_pb2

    state = caffe_pb2.SolverState.FromString(path.read_bytes())
    state.ClearField("run_state_sha256")
    path.write_bytes(state.SerializeToString())
