"""Keeper: which snapshots it removes, when it writes the best weights, and when it stops a training."""

import os

import numpy as np
import pytest

from helpers.nets import solver_from_text
from minicaffe.errors import SnapshotError, SolverError
from minicaffe.solvers import Keeper
from minicaffe.solvers.snapshot_files import newest

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 4 dim: 3 }
        shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
layer { name: "mean" type: "Reduction" bottom: "y" top: "mean" include { phase: TEST } }
layer { name: "vector" type: "Power" bottom: "y" top: "vector" include { phase: TEST } }
"""
TEST = "test_iter: 1 test_interval: 2 test_initialization: false"


def solver(folder, text="", form="BINARYPROTO"):
    return solver_from_text(
        f"base_lr: 0.01 lr_policy: 'fixed' momentum: 0.9 random_seed: 1 snapshot_prefix: '{folder}/s' "
        f"snapshot_format: {form} {text}",
        NET,
    )


def iterations(folder):
    """The iterations of which there are files, by extension."""
    found: dict = {}
    for name in os.listdir(folder):
        stem, _, extension = name.partition(".")
        found.setdefault(extension, set()).add(int(stem.removeprefix("s_iter_")))
    return found


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form, end", [("BINARYPROTO", ""), ("HDF5", ".h5")])
def test_the_newest_sets_are_kept(tmp_path, form, end):
    made = solver(tmp_path, "snapshot: 2 max_iter: 9", form)
    made.observers.append(Keeper(made, keep=2))
    made.solve()
    assert iterations(tmp_path) == {"runstate": {8, 9}, "caffemodel" + end: {8, 9}, "solverstate" + end: {8, 9}}


def test_only_whole_sets_are_counted(tmp_path):
    made = solver(tmp_path, "snapshot: 2")
    made.step(7)
    (tmp_path / "s_iter_6.runstate").write_text("damaged")
    (tmp_path / "s_iter_4.solverstate").unlink()
    made.observers.append(Keeper(made, keep=2))
    made.step(1)
    assert iterations(tmp_path)["solverstate"] == {2, 6, 8}
    made.step(4)
    assert iterations(tmp_path) == {name: {10, 12} for name in ("runstate", "caffemodel", "solverstate")}


def test_other_files_and_later_iterations_stay(tmp_path):
    others = ["s_iter_20.solverstate", "s_iter_1.solverstate.bak", "s_iter_1.prototxt", "ss_iter_1.caffemodel",
              "s_iter_01.caffemodel", "s_best.caffemodel", "s.log"]  # fmt: skip
    for name in (*others, "s_iter_1.caffemodel", "s_iter_1.solverstate.h5"):
        (tmp_path / name).write_text("x")
    made = solver(tmp_path, "snapshot: 2")
    made.observers.append(Keeper(made, keep=1))
    made.step(4)
    mine = ["s_iter_4.caffemodel", "s_iter_4.runstate", "s_iter_4.solverstate"]
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *mine])


def test_the_solver_state_is_removed_first(tmp_path, monkeypatch):
    made = solver(tmp_path)
    made.snapshot()
    made.step(1)
    made.observers.append(Keeper(made, keep=1))
    removed = []
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: removed.append(os.path.basename(path)) or unlink(path))
    made.snapshot()
    assert removed[0] == "s_iter_0.solverstate" and len(removed) == 3


def test_a_file_that_cannot_be_removed_is_logged(tmp_path, monkeypatch, caplog):
    made = solver(tmp_path)
    made.snapshot()
    made.step(1)
    made.observers.append(Keeper(made, keep=1))

    def refuse(path):
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", refuse)
    made.snapshot()
    assert "Cannot remove the old snapshot file" in caplog.text and "s_iter_0.solverstate" in caplog.text


# -- the best weights, patience ----------------------------------------------------------------------------------------


def scores(keeper, solver, *values):
    """Let a keeper see the scores of successive tests."""
    for value in values:
        keeper.on_test(solver, keeper.net_id, {keeper.output: [value]})
        solver.iter += 1


@pytest.mark.parametrize("best, values, expected", [
    ("loss", [3, 2, 2.5, float("nan"), 2], (2, 1, 3)),
    ("loss:larger", [3, 2, 2.5, 4], (4, 3, 0)),
    ("mean", [3, 2, 2.5, 4, 4], (4, 3, 1)),
    ("mean:smaller", [3, 2, 2.5], (2, 1, 1)),
    ("mean", [float("nan"), -1], (-1, 1, 0)),
    ("mean", [float("nan")], (None, None, 1)),
])  # fmt: skip
def test_which_value_is_the_best(tmp_path, best, values, expected):
    made = solver(tmp_path, TEST)
    keeper = Keeper(made, best=best)
    scores(keeper, made, *values)
    assert (keeper.value, keeper.iter, keeper.since) == expected
    assert (tmp_path / "s_best.caffemodel").exists() == (keeper.value is not None)


@pytest.mark.parametrize("form, name", [("BINARYPROTO", "s_best.caffemodel"), ("HDF5", "s_best.caffemodel.h5")])
def test_the_best_weights_are_those_of_the_test(tmp_path, form, name):
    made = solver(tmp_path, f"{TEST} max_iter: 9 snapshot_after_train: false", form)
    keeper = Keeper(made, best="loss")
    seen = []

    class Record:
        def on_test(self, solver, net_id, scores):
            seen.append((scores["loss"][0], solver.net.params["ip"][0].data.copy()))

    made.observers += [keeper, Record()]
    made.solve()
    best = min(seen, key=lambda each: each[0])
    assert len(seen) == 4 and keeper.value == best[0]
    assert os.listdir(tmp_path) == [name]
    other = solver(tmp_path)
    other.net.copy_from(tmp_path / name)
    np.testing.assert_array_equal(other.net.params["ip"][0].data, best[1])


class Worse:
    """Lets the test of iteration 2 be the best, by changing the scores that the following observers get."""

    def on_test(self, solver, net_id, scores):
        scores["loss"] = [float(max(solver.iter, 6 - solver.iter))]


def patient(folder, patience):
    made = solver(folder, f"{TEST} max_iter: 30")
    made.observers += [Worse(), Keeper(made, best="loss", patience=patience)]
    return made


def test_patience_stops_with_a_snapshot(tmp_path, caplog):
    caplog.set_level("INFO", "minicaffe")
    made = patient(tmp_path, 3)
    made.solve()
    assert made.stopped and made.iter == 8  # the best value is that of iteration 2
    assert "Stopping: no better loss in 3 tests; the best was 4.0, of iteration 2" in caplog.messages
    assert newest(f"{tmp_path}/s") == f"{tmp_path}/s_iter_8.solverstate"


def test_a_resumed_run_counts_on(tmp_path):
    begun = patient(tmp_path, 3)
    begun.step(7)
    begun.snapshot()
    for _ in range(2):  # the second time the test is repeated, and stops the training again
        resumed = patient(tmp_path, 3)
        resumed.restore_newest()
        resumed.solve()
        assert resumed.stopped and resumed.iter == 8 and resumed.observers[1].since == 3
    longer = patient(tmp_path, 5)
    longer.restore_newest()
    longer.solve()
    assert longer.iter == 12


def test_the_state_of_another_output_is_not_taken(tmp_path):
    made = solver(tmp_path, TEST)
    keeper = Keeper(made, best="loss")
    made.observers.append(keeper)
    scores(keeper, made, 2.0)
    made.snapshot()
    for best, value in (("loss", 2.0), ("loss:smaller", 2.0), ("loss:larger", None), ("mean", None)):
        other = solver(tmp_path, TEST)
        other.observers.append(Keeper(other, best=best))
        other.restore_newest()
        assert other.observers[0].value == value


@pytest.mark.parametrize("wrong", [{"value": "1"}, {"iter": None}, {"since": None}, {"value": None}, {"iter": 1.5}])
def test_a_damaged_state_changes_nothing(tmp_path, wrong):
    made = solver(tmp_path, TEST)
    made.observers.append(Keeper(made, best="loss"))
    scores(made.observers[0], made, 2.0)
    state = made.observers[0].run_state()
    with pytest.raises(SnapshotError, match="best value is damaged"):
        made.observers[0].load_run_state({**state, **wrong})
    assert made.observers[0].run_state() == state


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_weights_that_cannot_be_written_do_not_end_the_training(tmp_path, caplog, form):
    made = solver(tmp_path, f"{TEST} max_iter: 5 snapshot_after_train: false", form)
    (tmp_path / f"s_best.caffemodel{'.h5' if form == 'HDF5' else ''}").mkdir()
    made.observers.append(Keeper(made, best="loss", patience=1))
    with pytest.raises(SnapshotError, match="cannot write '.*s_best.caffemodel"):
        made.solve()
    assert made.iter == 5 and "training goes on without this copy of the best weights" in caplog.text


@pytest.mark.parametrize("options, message", [
    ({"best": "los"}, "no test net has an output 'los', expected one of: loss, mean, vector"),
    ({"best": "loss:lower"}, "no test net has an output 'loss:lower'"),
    ({"best": "vector"}, "the output 'vector' must have one value, got 8"),
    ({"patience": 2}, "give the output for best, too"),
    ({"keep": 0}, "keep must be at least 1, got 0"),
    ({"best": "loss", "patience": 0}, "patience must be at least 1, got 0"),
])  # fmt: skip
def test_mistakes(tmp_path, options, message):
    with pytest.raises(SolverError, match=message):
        Keeper(solver(tmp_path, TEST), **options)


def test_without_a_test_net_nothing_is_the_best(tmp_path):
    with pytest.raises(SolverError, match="there is no test net"):
        Keeper(solver(tmp_path), best="loss")
