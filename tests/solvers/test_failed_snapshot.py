"""Snapshots that cannot be written: training goes on, the last one's error is raised at the end."""

import logging
import os

import pytest

from helpers.nets import solver_from_text
from minicaffe import files
from minicaffe.errors import SnapshotError, SolverError

NET = """
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 4 dim: 6 } shape { dim: 4 dim: 3 }
        data_filler { type: "gaussian" std: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""


@pytest.fixture
def solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(text: str):
        return solver_from_text(f"base_lr: 0.01 lr_policy: 'fixed' random_seed: 1 {text}", NET)

    return make


@pytest.fixture
def full(monkeypatch):
    """Let the disk be full while a function of the file's name is true."""

    replace = os.replace

    def arrange(is_full) -> None:
        def and_fail(source, target):
            if is_full(os.fspath(target)):
                raise OSError(28, "No space left on device")
            replace(source, target)

        monkeypatch.setattr(files.os, "replace", and_fail)

    return arrange


def test_training_goes_on_without_a_snapshot(solver, full, caplog):
    made = solver("max_iter: 6 snapshot: 2 snapshot_prefix: 's'")
    full(lambda name: "_iter_4." in name)
    with caplog.at_level(logging.WARNING):
        made.solve()
    assert made.iter == 6
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("cannot write '") and "s_iter_4." in warning
    assert warning.endswith("No space left on device; training goes on without this snapshot")
    names = os.listdir(".")
    assert {f"s_iter_{n}.solverstate" for n in (2, 6)} <= set(names) and "s_iter_4.solverstate" not in names
    assert not [name for name in names if name.startswith(".")]


@pytest.mark.parametrize("call", ["solve", "step"])
def test_the_error_of_the_last_one_is_raised_at_the_end(solver, full, call):
    made = solver("max_iter: 5 snapshot: 2 snapshot_prefix: 's' test_interval: 5 test_iter: 1")
    full(lambda name: "_iter_2." not in name)
    with pytest.raises(SnapshotError, match="s_iter_[45].*No space left on device"):
        made.solve() if call == "solve" else made.step(5)
    assert made.iter == 5
    made.restore("s_iter_2.solverstate")
    full(lambda name: False)
    made.step(2)  # the earlier error does not count any more


def test_a_call_of_snapshot_raises_at_once(solver, full):
    made = solver("max_iter: 5 snapshot_prefix: 's'")
    full(lambda name: True)
    with pytest.raises(SnapshotError, match="No space left on device"):
        made.snapshot()


# -- before training ---------------------------------------------------------------------------------------------------


def test_the_check_leaves_files_of_others_alone(solver, tmp_path):
    outside = tmp_path / "outside"
    os.mkdir("out")
    outside.write_text("kept")
    os.symlink(outside, "out/s_iter_0.tempfile")
    made = solver("max_iter: 1 snapshot: 1 snapshot_prefix: 'out/s'")
    assert os.listdir("out") == ["s_iter_0.tempfile"] and outside.read_text() == "kept"
    made.solve()


@pytest.mark.parametrize(
    "prefix, reason",
    [("nowhere/s", "No such file or directory"), ("s" * 240, "File name too long"), ("a\\0b", "null")],
)
def test_a_prefix_that_cannot_be_written_is_refused_before_the_net_is_built(solver, prefix, reason):
    with pytest.raises(SolverError, match=f"cannot write to the snapshot prefix.*{reason}"):
        solver(f"max_iter: 1 snapshot: 1 snapshot_prefix: '{prefix}'")
    assert os.listdir(".") == []


def test_a_relative_prefix_names_the_working_directory(solver, tmp_path):
    text = "paths are relative to the folder in which the command runs"
    with pytest.raises(SolverError, match=f"is writeable .looked in {os.getcwd()}; {text}.$"):
        solver("max_iter: 1 snapshot: 1 snapshot_prefix: 'my_net/s'")
    with pytest.raises(SolverError, match="is writeable$"):
        solver(f"max_iter: 1 snapshot: 1 snapshot_prefix: '{tmp_path}/my_net/s'")


def test_a_folder_with_the_name_of_a_file_to_write(tmp_path):
    with pytest.raises(OSError, match="Is a directory"):
        files.check_writable(tmp_path)
    files.check_writable(tmp_path / "new")
    assert os.listdir(tmp_path) == []
