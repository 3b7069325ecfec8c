"""Snapshots of nets with repeated or empty layer names, and errors for weights given as solver states or vice versa."""

import json
import pathlib

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text, solver_from_text
from minicaffe.errors import SnapshotError
from minicaffe.proto import caffe_pb2

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
    whole.step(3)
    resumed = solver(tmp_path, net=net, seed=8)
    resumed.restore(tmp_path / "s_iter_3.solverstate")
    resumed.step(3)
    for a, b in zip(whole.net.learnable_params, resumed.net.learnable_params):
        np.testing.assert_array_equal(a.data, b.data)


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
