"""The training loop: what it prints, when it tests and snapshots, and how it continues after a stop."""

import logging
import pathlib
import re

import numpy as np
import pytest

import minicaffe
from helpers.nets import solver_from_text
from minicaffe.errors import SnapshotError, SolverError
from minicaffe.proto import caffe_pb2, parse_text

NET = """
name: "tiny"
layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: 8 dim: 5 } shape { dim: 8 } } }
layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" dropout_param { dropout_ratio: 0.3 } }
layer { name: "ip" type: "InnerProduct" bottom: "drop" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


def solver(text="", net=NET):
    policy = "" if "lr_policy" in text else "lr_policy: 'fixed'"
    made = solver_from_text(f"{policy} base_lr: 0.5 momentum: 0.9 random_seed: 1 {text}", net)
    rng = np.random.default_rng(0)
    data, label = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    for each in (made.net, *made.test_nets):
        each.blobs["data"].data[...], each.blobs["label"].data[...] = data, label
    return made


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    return lambda: caplog.messages


def weights(made):
    return [blob.data.copy() for blob in made.net.learnable_params]


# -- log lines ---------------------------------------------------------------------------------------------------------


def test_display_lines(lines):
    made = solver("display: 2 max_iter: 3 snapshot_after_train: false")
    made.solve()
    text = "\n".join(lines())
    number = r"[-+\d.e]+"
    assert re.search(rf"^Iteration 0 \({number} iter/s, {number}s/2 iters\), loss = {number}$", text, re.M)
    assert re.search(rf"^    Train net output #0: loss = ({number}) \(\* 1 = \1 loss\)$", text, re.M)
    assert re.search(r"^Iteration 2, lr = 0.5$", text, re.M)
    assert "Iteration 1" not in text
    assert (
        lines().index("Solving tiny")
        < lines().index("Learning Rate Policy: fixed")
        < lines().index("Optimization Done.")
    )


def test_repr_has_the_type_the_net_and_the_iteration():
    made = solver("type: 'Adam' max_iter: 20", NET)
    made.step(2)
    assert repr(made) == "<Adam solver of tiny: iteration 2 of 20>"
    assert repr(solver("max_iter: 20", NET.replace('name: "tiny"', ""))) == "<SGD solver: iteration 0 of 20>"


def test_testing_lines_and_intervals(lines):
    made = solver("test_iter: 2 test_interval: 2 max_iter: 4 test_compute_loss: true snapshot_after_train: false")
    made.solve()
    tests = [line for line in lines() if line.startswith("Iteration") and "Testing" in line]
    assert tests == [f"Iteration {n}, Testing net (#0)" for n in (0, 2, 4)]
    assert any(re.match(r"    Test net output #0: accuracy = [\d.]+$", line) for line in lines())
    assert any(re.match(r"    Test net output #1: loss = ([\d.]+) \(\* 1 = \1 loss\)$", line) for line in lines())
    assert any(re.match(r"Test loss: [\d.]+$", line) for line in lines())


def test_test_initialization_can_be_left_out(lines):
    solver("test_iter: 1 test_interval: 2 test_initialization: false").step(3)
    assert [line for line in lines() if "Testing" in line] == ["Iteration 2, Testing net (#0)"]


def test_average_loss_is_the_mean_of_the_last():
    made, losses = solver("average_loss: 3"), []

    class Watch:
        def on_iteration(self, solver, loss):
            losses.append(loss)

    made.observers.append(Watch())
    made.step(5)
    assert made.smoothed_loss == pytest.approx(np.mean(losses[-3:]))
    made.step(1)
    assert made.smoothed_loss == pytest.approx(losses[-1]), "each call of step begins a new mean"


def test_debug_info_only_on_display_iterations(lines):
    solver("display: 2 debug_info: true").step(2)
    assert sum("[Forward] Layer ip, top blob" in line for line in lines()) == 1


# -- nets --------------------------------------------------------------------------------------------------------------


def test_test_nets_share_the_trained_parameters():
    made = solver("test_iter: 1 test_interval: 100")
    made.step(3)
    np.testing.assert_array_equal(made.test_nets[0].params["ip"][0].data, made.net.params["ip"][0].data)
    assert "accuracy" in made.test_nets[0].blobs and "accuracy" not in made.net.blobs


def test_stages_reach_the_test_nets():
    net = NET.replace("include { phase: TEST }", "include { phase: TEST stage: 'score' }")
    made = solver("test_iter: 1 test_iter: 1 test_interval: 9 test_state { stage: 'score' } test_state {}", net)
    assert ["accuracy" in each.blobs for each in made.test_nets] == [True, False]


@pytest.mark.parametrize("text, message", [
    ("net: 'x' net_param {}", "exactly one of net, net_param, train_net, train_net_param: got net, net_param"),
    ("", "exactly one of .*: got none"),
    ("net_param {} test_net: 'a' test_net: 'b' test_iter: 1", r"for each test net: 2 test net\(s\), got 1"),
    ("net_param {} test_iter: 1", "test_interval above 0"),
    ("net_param {} test_iter: 1 test_interval: 1 test_state {} test_state {}", "test_iter has 1 value.*, test_state 2"),
])  # fmt: skip
def test_nets_that_make_no_sense(text, message):
    with pytest.raises(SolverError, match=message):
        minicaffe.get_solver(parse_text("lr_policy: 'fixed' " + text, caffe_pb2.SolverParameter()))


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot_format", ["HDF5", "BINARYPROTO"])
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_resuming_equals_not_stopping_bit_for_bit(tmp_path, snapshot_format, rule):
    more = f"type: '{rule}' snapshot_format: {snapshot_format} snapshot_prefix: '{tmp_path}/s' snapshot: 4 max_iter: 10"
    whole = solver(more)
    whole.solve()
    suffix = ".h5" if snapshot_format == "HDF5" else ""
    resumed = solver(more)
    resumed.solve(f"{tmp_path}/s_iter_4.solverstate{suffix}")
    assert resumed.iter == 10
    for a, b in zip(weights(whole), weights(resumed)):
        np.testing.assert_array_equal(a, b)


def test_snapshots_fall_due_and_the_last_is_not_written_twice(tmp_path):
    solver(f"snapshot: 3 snapshot_prefix: '{tmp_path}/s' max_iter: 6").solve()
    assert sorted(p.name for p in tmp_path.glob("*.caffemodel")) == ["s_iter_3.caffemodel", "s_iter_6.caffemodel"]
    solver(f"snapshot: 4 snapshot_prefix: '{tmp_path}/t' max_iter: 6").solve()
    assert sorted(p.name for p in tmp_path.glob("t*.solverstate")) == ["t_iter_4.solverstate", "t_iter_6.solverstate"]


def test_snapshot_diff(tmp_path):
    made = solver(f"snapshot_prefix: '{tmp_path}/s' snapshot_diff: true")
    made.step(1)
    saved = caffe_pb2.NetParameter.FromString(pathlib.Path(made.snapshot()).read_bytes())
    assert any(blob.diff for layer in saved.layer for blob in layer.blobs)


def test_multistep_remembers_its_step(tmp_path):
    more = f"lr_policy: 'multistep' gamma: 0.1 stepvalue: 2 stepvalue: 4 snapshot_prefix: '{tmp_path}/s'"
    made = solver(more)
    made.step(5)
    made.snapshot()
    other = solver(more)
    other.restore(f"{tmp_path}/s_iter_5.solverstate")
    assert other.current_step == 2 and other.lr == pytest.approx(0.005)


def test_reading_lr_logs_nothing(lines):
    made = solver("lr_policy: 'multistep' gamma: 0.1 stepvalue: 2 display: 0 max_iter: 9")
    made.step(2)
    before = len(lines())
    assert [made.lr for _ in range(3)] == pytest.approx([made.param.base_lr * 0.1] * 3)
    assert len(lines()) == before and made.current_step == 0
    made.step(2)
    assert [line for line in lines() if "MultiStep" in line] == ["MultiStep Status: Iteration 2, step = 1"]


def test_a_missing_folder_for_the_last_snapshot_is_an_error_before_training(tmp_path, lines):
    made = solver(f"max_iter: 5 display: 1 snapshot_prefix: '{tmp_path}/missing/run'")
    with pytest.raises(SolverError, match="cannot write to the snapshot prefix .*missing/run"):
        made.solve()
    assert made.iter == 0
    made.step(1)  # `step` alone writes no snapshot after training
    made.param.snapshot_after_train = False
    made.solve()


def test_a_missing_folder_is_told_before_training(tmp_path):
    with pytest.raises(SolverError, match="cannot write to the snapshot prefix '.*nowhere/s'.*exists and is writeable"):
        solver(f"snapshot: 5 snapshot_prefix: '{tmp_path}/nowhere/s'")


def test_a_caffemodel_is_not_a_solver_state(tmp_path):
    made = solver(f"snapshot_prefix: '{tmp_path}/s'")
    path = made.snapshot()
    with pytest.raises(SnapshotError, match="s_iter_0.caffemodel"):
        made.restore(path)
    made.param.snapshot_format = made.param.HDF5
    path = made.snapshot()
    with pytest.raises(SnapshotError, match="expected iter and history"):
        made.restore(path)


def test_snapshots_of_another_net_or_rule_are_refused(tmp_path):
    solver(f"type: 'Adam' snapshot_prefix: '{tmp_path}/s'").snapshot()
    with pytest.raises(SnapshotError, match="incorrect length of history blobs: expected 2 .* type SGD, got 4"):
        solver().restore(f"{tmp_path}/s_iter_0.solverstate")
    solver(f"snapshot_prefix: '{tmp_path}/s'").snapshot()
    with pytest.raises(SnapshotError, match=r"history 0: expected 20 values of shape \(4, 5\), got 15"):
        solver("", NET.replace("num_output: 3", "num_output: 4")).restore(f"{tmp_path}/s_iter_0.solverstate")


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_truncated_states(tmp_path, suffix):
    made = solver(f"snapshot_prefix: '{tmp_path}/s' snapshot_format: {'HDF5' if suffix else 'BINARYPROTO'}")
    made.snapshot()
    path = tmp_path / f"s_iter_0.solverstate{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SnapshotError, match="truncated"):
        made.restore(path)


def test_weights_are_found_beside_the_state_when_the_folder_moved(tmp_path):
    (tmp_path / "a").mkdir()
    made = solver(f"snapshot_prefix: '{tmp_path}/a/s'")
    made.step(2)
    made.snapshot()
    (tmp_path / "a").rename(tmp_path / "b")
    other = solver()
    other.restore(tmp_path / "b" / "s_iter_2.solverstate")
    np.testing.assert_array_equal(weights(other)[0], weights(made)[0])


# -- stopping and scripts ----------------------------------------------------------------------------------------------


def test_stop_ends_after_a_snapshot(tmp_path, lines):
    made = solver(f"max_iter: 100 snapshot_prefix: '{tmp_path}/s'")
    made.action = lambda: "stop" if made.iter == 7 else None
    made.solve()
    assert made.iter == 7 and (tmp_path / "s_iter_7.solverstate").exists()
    assert "Optimization stopped early." in lines()


def test_snapshot_on_request_goes_on(tmp_path):
    made = solver(f"max_iter: 9 snapshot_prefix: '{tmp_path}/s' snapshot_after_train: false")
    made.action = lambda: "snapshot" if made.iter == 4 else None
    made.solve()
    assert made.iter == 9 and [p.name for p in tmp_path.glob("*.caffemodel")] == ["s_iter_4.caffemodel"]


def test_stopping_within_a_test(lines):
    made = solver("test_iter: 50 test_interval: 5 max_iter: 20 snapshot_after_train: false")
    made.action = lambda: "stop" if made.iter == 5 else None
    made.solve()
    assert made.iter == 5 and "Optimization stopped early." in lines()


def test_callbacks_see_weights_and_gradients():
    made, seen = solver(), []
    made.add_callback(
        lambda: seen.append(("start", float(np.abs(made.net.params["ip"][0].diff).sum()))),
        lambda: seen.append(("ready", float(np.abs(made.net.params["ip"][0].diff).sum()))),
    )
    made.step(2)
    assert [name for name, _ in seen] == ["start", "ready"] * 2
    assert all((value > 0) == (name == "ready") for name, value in seen)


def test_param_can_be_changed_while_training():
    made = solver()
    made.param.base_lr = 0.25
    assert made.lr == 0.25


@pytest.mark.parametrize(
    "text, message",
    [
        ("gamma: nan", "gamma must be a finite number, got nan"),
        ("weight_decay: inf", "weight_decay must be a finite number, got inf"),
        ("iter_size: 0", "iter_size must be at least 1, got 0"),
        ("average_loss: 0", "average_loss must be at least 1, got 0"),
        ("snapshot: -1", "snapshot must be at least 0, got -1"),
        ("rampup_interval: -1", "rampup_interval must be at least 0, got -1"),
        ("rampup_lr: -1", "rampup_lr must not be negative, got -1"),
        ("test_iter: -2 test_interval: 1", "test_iter must not be negative, got -2"),
        ("lr_policy: ''", "a solver must give its lr_policy: known are exp, "),
    ],
)
def test_numbers_that_no_training_can_use(text, message):
    with pytest.raises(SolverError, match=message):
        solver(text)


def test_a_missing_rate_is_told(lines):
    param = parse_text("lr_policy: 'fixed'", caffe_pb2.SolverParameter())
    parse_text(NET, param.net_param)
    minicaffe.get_solver(param)
    assert "The solver gives no base_lr: at rate 0 nothing is learned" in lines()
