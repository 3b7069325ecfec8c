"""Snapshots: sets of files that belong together, repeated or empty layer names, files of the wrong kind."""

import json
import os
import pathlib

import h5py
import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text, solver_from_text
from minicaffe.errors import SnapshotError
from minicaffe.proto import caffe_pb2
from minicaffe.solvers.snapshot_files import newest

DATA = """
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 8 dim: 16 }
        shape { dim: 8 dim: 4 } data_filler { type: "constant" value: 1 } data_filler { type: "gaussian" } } }
"""
NET = (
    DATA
    + """
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "a"
        inner_product_param { num_output: 16 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "a" top: "a" }
layer { name: "ip2" type: "InnerProduct" bottom: "a" top: "y"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "y" top: "y" }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" }
"""
)
SUFFIX = {"BINARYPROTO": "", "HDF5": ".h5"}


def solver(folder, text="", net=NET, seed=7):
    more = f"base_lr: 0.001 lr_policy: 'fixed' momentum: 0.9 random_seed: {seed} snapshot_prefix: '{folder}/s' {text}"
    return solver_from_text(more, net)


def assert_resumes(folder, text="", net=NET):
    """Check that the three iterations after a snapshot give the same numbers in a resumed run."""
    whole = solver(folder, text, net)
    whole.step(3)
    whole.snapshot()
    whole.step(3)
    resumed = solver(folder, text, net, seed=8)
    resumed.restore(f"{folder}/s_iter_3.solverstate{SUFFIX['HDF5' if 'HDF5' in text else 'BINARYPROTO']}")
    resumed.step(3)
    for a, b in zip(whole.net.learnable_params, resumed.net.learnable_params):
        np.testing.assert_array_equal(a.data, b.data)


def remove_digests(path):
    """Make a solver state one of the original or of an older version."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs.clear()
    else:
        state = caffe_pb2.SolverState.FromString(path.read_bytes())
        state.ClearField("weights_sha256")
        state.ClearField("run_state_sha256")
        path.write_bytes(state.SerializeToString())


@pytest.mark.parametrize("form", SUFFIX)
def test_layers_of_one_name_resume_bit_for_bit(tmp_path, form):
    assert_resumes(tmp_path, f"snapshot_format: {form}")


@pytest.mark.parametrize("form", SUFFIX)
def test_unnamed_layers_resume_bit_for_bit(tmp_path, form):
    assert_resumes(tmp_path, f"snapshot_format: {form}", NET.replace('name: "drop" ', "").replace('name: "data" ', ""))


@pytest.mark.parametrize("name", ['name: "ip"', ""], ids=["one name", "no name"])
def test_parameters_of_one_name_resume_in_the_binary_form(tmp_path, name):
    assert_resumes(tmp_path, net=NET.replace('name: "ip1"', name).replace('name: "ip2"', name))


@pytest.mark.parametrize("when", ["snapshot: 5", "snapshot_after_train: true", ""])
def test_what_hdf5_cannot_hold_is_refused_before_training(tmp_path, when):
    with pytest.raises(SnapshotError, match="two layers with parameters of one name, 'ip1'.*BINARYPROTO"):
        solver(tmp_path, f"snapshot_format: HDF5 {when}", NET.replace('"ip2"', '"ip1"'))
    with pytest.raises(SnapshotError, match="a layer without a name"):
        solver(tmp_path, f"snapshot_format: HDF5 {when}", NET.replace('name: "ip2"', ""))


def test_without_snapshots_hdf5_need_hold_nothing(tmp_path):
    net = NET.replace('"ip2"', '"ip1"')
    made = solver(tmp_path, "snapshot_format: HDF5 snapshot_after_train: false", net)
    with pytest.raises(SnapshotError, match="one name"):
        made.snapshot()
    assert not list(tmp_path.iterdir())


def test_run_states_by_name_alone_are_read(tmp_path):
    """Older run states contain a dict {name: state} instead of a list."""
    net = NET.replace('name: "drop"', 'name: "drop2"', 1)
    whole = solver(tmp_path, net=net)
    whole.step(3)
    whole.snapshot()
    path = tmp_path / "s_iter_3.runstate"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({"nets": [dict(layers) for layers in state["nets"]]}))
    remove_digests(tmp_path / "s_iter_3.solverstate")
    whole.step(3)
    resumed = solver(tmp_path, net=net, seed=8)
    resumed.restore(tmp_path / "s_iter_3.solverstate")
    resumed.step(3)
    for a, b in zip(whole.net.learnable_params, resumed.net.learnable_params):
        np.testing.assert_array_equal(a.data, b.data)


# -- sets of files -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=SUFFIX)
def form(request):
    return request.param


def written(folder, form, seed=7, steps=3, net=NET):
    """A solver after some steps, and its snapshot: the paths of weights, run state and solver state."""
    made = solver(folder, f"snapshot_format: {form} average_loss: 3", net, seed)
    made.step(steps)
    model = made.snapshot()
    state = model.replace(".caffemodel", ".solverstate")
    return made, [pathlib.Path(path) for path in (model, f"{folder}/s_iter_{steps}.runstate", state)]


def values(made):
    return [blob.data.copy() for blob in (*made.net.learnable_params, *made.history)]


def test_the_solver_state_is_written_last(tmp_path, form, monkeypatch):
    order = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: order.append(os.path.basename(new)) or replace(old, new))
    _, paths = written(tmp_path, form)
    assert order == [paths[1].name, paths[0].name, paths[2].name]


@pytest.mark.parametrize("which, what", [(0, "caffemodel"), (1, "runstate")])
@pytest.mark.parametrize("damage", ["another run", "truncated", "changed"])
def test_a_file_that_was_not_written_with_the_state_is_refused(tmp_path, form, which, what, damage):
    (tmp_path / "other").mkdir()
    _, paths = written(tmp_path, form)
    _, others = written(tmp_path / "other", form, seed=8)
    content = paths[which].read_bytes()
    paths[which].write_bytes({
        "another run": others[which].read_bytes(),
        "truncated": content[:-100],
        "changed": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    }[damage])  # fmt: skip
    made = solver(tmp_path, f"snapshot_format: {form}", seed=9)
    made.step(1)
    before, states = values(made), [layer.state() for layer in made.net.layers]
    with pytest.raises(SnapshotError, match=rf"s_iter_3.{what}.*' is damaged, or of another run than '.*s_iter_3.solv"):
        made.restore(paths[2])
    assert made.iter == 1 and [layer.state() for layer in made.net.layers] == states
    for a, b in zip(values(made), before):
        np.testing.assert_array_equal(a, b)


def test_without_digests_files_are_restored_as_they_are(tmp_path, form):
    (tmp_path / "other").mkdir()
    made, paths = written(tmp_path, form)
    other, others = written(tmp_path / "other", form, seed=8)
    for i in (0, 1):
        paths[i].write_bytes(others[i].read_bytes())
    remove_digests(paths[2])
    resumed = solver(tmp_path, f"snapshot_format: {form}", seed=9)
    resumed.restore(paths[2])
    np.testing.assert_array_equal(resumed.net.params["ip1"][0].data, other.net.params["ip1"][0].data)
    np.testing.assert_array_equal(resumed.history[0].data, made.history[0].data)


def test_a_run_state_of_the_other_format_is_noticed(tmp_path):
    _, paths = written(tmp_path, "HDF5")
    written(tmp_path, "BINARYPROTO")
    solver(tmp_path, seed=9).restore(paths[2])  # the same run: the run states are equal
    written(tmp_path, "BINARYPROTO", seed=8)
    with pytest.raises(SnapshotError, match="s_iter_3.runstate' is damaged, or of another run than '.*solverstate.h5'"):
        solver(tmp_path, seed=9).restore(paths[2])


@pytest.mark.parametrize("digests, level", [(True, "WARNING"), (False, "INFO")])
def test_a_missing_run_state_is_logged(tmp_path, form, caplog, digests, level):
    _, paths = written(tmp_path, form)
    paths[1].unlink()
    if not digests:
        remove_digests(paths[2])
    caplog.set_level("INFO", "minicaffe")
    solver(tmp_path, seed=9).restore(paths[2])
    (record,) = [each for each in caplog.records if "runstate" in each.getMessage()]
    assert record.levelname == level and "data and random numbers start anew" in record.getMessage()


def test_weights_of_a_later_run_at_the_old_place_are_passed_over(tmp_path, form):
    (tmp_path / "a").mkdir()
    made, _ = written(tmp_path / "a", form)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    _, paths = written(tmp_path / "a", form, seed=8)
    resumed = solver(tmp_path, seed=9)
    resumed.restore(tmp_path / "b" / paths[2].name)
    for a, b in zip(values(resumed), values(made)):
        np.testing.assert_array_equal(a, b)


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    _, paths = written(tmp_path, "BINARYPROTO", net=NET.replace('name: "ip1"', 'name: "other1"', 1).replace(
        'name: "ip2"', 'name: "other2"'))  # fmt: skip
    made = solver(tmp_path, seed=9)
    made.step(1)
    before, states = values(made), [layer.state() for layer in made.net.layers]
    with pytest.raises(SnapshotError, match="no layer of the net takes weights"):
        made.restore(paths[2])
    assert made.iter == 1 and [layer.state() for layer in made.net.layers] == states
    for a, b in zip(values(made), before):
        np.testing.assert_array_equal(a, b)


def test_average_loss_goes_on_where_the_snapshot_was_made(tmp_path, form):
    text = f"snapshot_format: {form} average_loss: 4"
    whole = solver(tmp_path, text + " snapshot: 3")
    whole.step(5)
    resumed = solver(tmp_path, text, seed=8)
    resumed.restore(tmp_path / f"s_iter_3.solverstate{SUFFIX[form]}")
    assert len(resumed.losses) == 3
    resumed.step(2)
    assert resumed.losses == whole.losses and resumed.smoothed_loss == whole.smoothed_loss
    resumed.step(1)
    assert len(resumed.losses) == 1  # as in the original, where no snapshot is restored


# -- the newest set ----------------------------------------------------------------------------------------------------


def age(path, seconds):
    """Let a file be older by so many seconds."""
    then = os.stat(path).st_mtime_ns - seconds * 10**9
    os.utime(path, ns=(then, then))


def three_sets(folder, form):
    sets = []
    for n in (1, 2, 3):
        sets.append(written(folder, form, steps=n)[1])
        age(sets[-1][2], 10 - n)
    return sets


def test_the_newest_whole_set_is_found(tmp_path, form, caplog):
    sets, prefix = three_sets(tmp_path, form), f"{tmp_path}/s"
    assert newest(prefix) == str(sets[2][2])
    sets[2][0].write_bytes(sets[1][0].read_bytes())
    assert newest(prefix) == str(sets[1][2])
    sets[1][1].unlink()
    caplog.clear()
    assert newest(prefix) == str(sets[0][2])
    assert [record.getMessage().partition(" is not whole")[0] for record in caplog.records] == [
        f"The snapshot {sets[2][2]}", f"The snapshot {sets[1][2]}"
    ]  # fmt: skip
    sets[0][2].write_bytes(b"\x08")
    assert newest(prefix) is None


def test_the_newest_is_the_one_written_last(tmp_path, form):
    """A later run with the same prefix that has not come as far."""
    sets = three_sets(tmp_path, form)
    age(sets[2][2], 100)
    assert newest(f"{tmp_path}/s") == str(sets[1][2])


def test_sets_without_digests_need_weights(tmp_path, form):
    sets = three_sets(tmp_path, form)
    for paths, n in zip(sets, (1, 2, 3)):
        remove_digests(paths[2])
        age(paths[2], 10 - n)
    sets[2][0].unlink()
    assert newest(f"{tmp_path}/s") == str(sets[1][2])


@pytest.mark.parametrize("prefix", ["s", "nowhere/s", "x"])
def test_no_set_at_all(tmp_path, monkeypatch, prefix):
    monkeypatch.chdir(tmp_path)
    for name in ("s_iter_4.caffemodel", "s_iter_04.solverstate", "s_iter_4.solverstate.bak", "ss_iter_4.solverstate"):
        (tmp_path / name).write_bytes(b"")
    assert newest(prefix) is None


def test_restoring_the_newest(tmp_path, form):
    made = solver(tmp_path, f"snapshot_format: {form}", seed=9)
    assert made.restore_newest() is None
    sets = three_sets(tmp_path, form)
    assert made.restore_newest() == made.last_state == str(sets[2][2])
    assert made.iter == 3


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    names = [".s_iter_4.caffemodel.part-01234567.caffemodel", ".s_best.caffemodel.part-01234567.caffemodel",
             ".t_iter_4.caffemodel.part-01234567.caffemodel"]  # fmt: skip
    for name in names:
        (tmp_path / name).write_bytes(b"")
    solver(tmp_path)
    assert sorted(os.listdir(tmp_path)) == names[2:]


# -- wrong kinds of files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", SUFFIX)
def test_files_given_for_each_other_are_named(tmp_path, form):
    made = solver(tmp_path, f"snapshot_format: {form}")
    weights = made.snapshot()
    state = weights.replace("caffemodel", "solverstate")
    with pytest.raises(SnapshotError, match="s_iter_0.caffemodel.*' holds weights, not a solver state"):
        made.restore(weights)
    with pytest.raises(SnapshotError, match="s_iter_0.solverstate.*' is a solver state, not weights"):
        made.net.copy_from(state)
    renamed = pathlib.Path(weights).rename(tmp_path / "renamed")  # files are recognised by their content
    with pytest.raises(SnapshotError, match="renamed' holds weights"):
        made.restore(renamed)


def test_a_solver_state_without_history_is_known_too(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(caffe_pb2.SolverState(iter=0, learned_net="", current_step=0).SerializeToString())
    with pytest.raises(SnapshotError, match="is a solver state, not weights"):
        net_from_text(DATA, minicaffe.TEST).copy_from(path)


@pytest.mark.parametrize(
    "fields", [{"num": 1, "channels": 3, "height": 2, "width": 2}, {"shape": {"dim": [1, 3, 2, 2]}}]
)
def test_a_mean_is_neither_weights_nor_a_solver_state(tmp_path, fields):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(caffe_pb2.BlobProto(data=range(12), **fields).SerializeToString())
    with pytest.raises(SnapshotError, match="mean.binaryproto' is a mean or another blob, not weights"):
        net_from_text(DATA, minicaffe.TEST).copy_from(path)
    with pytest.raises(SnapshotError, match="mean.binaryproto' is a mean or another blob, not a solver state"):
        solver(tmp_path).restore(path)


def test_weights_of_old_layers_are_known_too(tmp_path):
    old = caffe_pb2.NetParameter(name="old")
    old.layers.add(name="ip1").blobs.add(num=1, channels=1, height=1, width=1, data=[1])
    (tmp_path / "v1").write_bytes(old.SerializeToString())
    with pytest.raises(SnapshotError, match="v1' holds weights, not a solver state"):
        solver(tmp_path).restore(tmp_path / "v1")


@pytest.mark.parametrize("content", [b"", b"name: 'a prototxt'"])
def test_what_is_neither(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SnapshotError, match="x' is truncated, or no .solverstate"):
        solver(tmp_path).restore(tmp_path / "x")


# -- initial weights ---------------------------------------------------------------------------------------------------


def test_train_and_test_nets_warn_once(tmp_path, caplog):
    """One warning for a new layer of both nets and a layer of the test net only."""
    branch = """
        layer { name: "branch" type: "InnerProduct" bottom: "x" top: "b" inner_product_param { num_output: 1 }
                include { phase: TEST } }"""
    path = solver(tmp_path).snapshot()
    text = f"weights: '{path}' test_iter: 1 test_interval: 9"
    made = solver(tmp_path, text, NET.replace('"ip2"', '"mine"') + branch)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"1 of 3 layers with parameters took weights from '{path}'; not in the file: mine, branch; not in the net: ip2"
    ]
    np.testing.assert_array_equal(made.test_nets[0].params["mine"][0].data, made.net.params["mine"][0].data)
    with pytest.raises(SnapshotError, match="no layer of the net takes weights"):
        solver(tmp_path, text, NET.replace('"ip1"', '"other"').replace('"ip2"', '"mine"'))
