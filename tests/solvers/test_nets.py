"""The files and nets of a solver: each is read, parsed and upgraded once, and each warning is logged once."""

import collections
import logging

import pytest

import minicaffe
from minicaffe.cli import main
from minicaffe.errors import SolverError
from minicaffe.proto import caffe_pb2, parse_text, reading

NET = """
layer { name: "in" type: "DummyData" top: "x" top: "t"
        dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" backward_type: FLOAT16
        inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
V1 = """
layers { name: "in" type: DUMMY_DATA top: "x" top: "t" dummy_data_param { num: 2 num: 2 channels: 3 channels: 1
         height: 1 height: 1 width: 1 width: 1 } }
layers { name: "loss" type: EUCLIDEAN_LOSS bottom: "x" bottom: "x" }
"""
SOLVER = (
    'base_lr: 0.1 lr_policy: "fixed" max_iter: 1 test_iter: 1 test_iter: 1 test_interval: 1 '
    "snapshot_after_train: false local_lr_auto: true "
)
HINT = "backward_type only tune the original fork"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER + 'net: "net.prototxt"')
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Counter of the reads of each file."""
    counts = collections.Counter()
    original = reading._read_bytes
    monkeypatch.setattr(reading, "_read_bytes", lambda path: (counts.update([str(path)]), original(path))[1])
    return counts


def count(caplog, text):
    return sum(text in message for message in caplog.messages)


@pytest.mark.parametrize("make", [minicaffe.get_solver, minicaffe.SGDSolver])
def test_a_script_reads_each_file_once(make, folder, reads, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    solver = make("solver.prototxt")
    assert len(solver.test_nets) == 2
    assert reads == {"solver.prototxt": 1, "net.prototxt": 1}
    assert count(caplog, HINT) == count(caplog, "local_lr_auto are a fork's") == 1
    assert count(caplog, "snapshot_prefix is not given") == 1


def test_the_command_line_reads_each_file_once(folder, reads):
    assert main(["train", "-solver", "solver.prototxt", "--log", "log"]) == 0
    assert reads == {"solver.prototxt": 1, "net.prototxt": 1}
    log = (folder / "log").read_text()
    assert log.count(HINT) == log.count("local_lr_auto are a fork's") == log.count("snapshot_prefix is not given") == 1


def test_nets_within_a_solver_are_upgraded_once(folder, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    (folder / "inner.prototxt").write_text(SOLVER + f"net_param {{ {NET} }}")
    minicaffe.get_solver("inner.prototxt")
    assert count(caplog, HINT) == 1
    caplog.clear()
    minicaffe.get_solver(parse_text(SOLVER + f"net_param {{ {NET} }}", caffe_pb2.SolverParameter()))
    assert count(caplog, HINT) == 1


def test_a_message_with_old_nets_is_upgraded_and_left_as_it_was(caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    text = SOLVER + f"train_net_param {{ {V1} }} test_net_param {{ {V1} }} test_net_param {{ {V1} }}"
    message = parse_text(text, caffe_pb2.SolverParameter())
    solver = minicaffe.get_solver(message)
    assert [net.layers[0].type for net in (solver.net, *solver.test_nets)] == ["DummyData"] * 3
    assert solver.param is message and len(message.train_net_param.layers) == 2
    assert count(caplog, "upgraded V1 layers") == 3


def test_a_net_alone_is_upgraded_once(folder, reads, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    minicaffe.Net("net.prototxt", minicaffe.TEST)
    assert count(caplog, HINT) == 1 and reads == {"net.prototxt": 1}


@pytest.mark.parametrize("make", [minicaffe.get_solver, minicaffe.SGDSolver])
def test_files_are_found_beside_the_solver(make, folder, monkeypatch):
    minicaffe.Net("net.prototxt", minicaffe.TRAIN).save("start.caffemodel")
    (folder / "solver.prototxt").write_text(
        SOLVER + 'net: "net.prototxt" weights: " start.caffemodel , start.caffemodel"'
    )
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert make("../solver.prototxt").param.net == "../net.prototxt"


def test_numbers_of_test_iter_and_test_state_that_differ_are_both_named(folder):
    (folder / "solver.prototxt").write_text(SOLVER + 'net: "net.prototxt" test_state { level: 1 }')
    with pytest.raises(SolverError, match=r"test_iter has 2 value\(s\), test_state 1$"):
        minicaffe.get_solver("solver.prototxt")
