"""Engines that cannot compute what they were chosen for: one line in the log of a run."""

import os
import subprocess
import sys

import pytest

import minicaffe
from helpers.nets import net_from_text
from minicaffe.core import registry
from minicaffe.core.settings import restored
from minicaffe.onednn.engine import ONEDNN

NET = """
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 4 dim: 4 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "y"
        convolution_param {{ num_output: 2 kernel_size: 3 {engine} }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "y" top: "z"
        convolution_param {{ num_output: 2 kernel_size: 1 {engine} }} }}
"""
ROOT = os.path.dirname(os.path.dirname(minicaffe.__file__))
MISSING = "no usable libdnnl (pip install onednn): none"


@pytest.fixture
def without_onednn(monkeypatch):
    monkeypatch.setattr(ONEDNN, "reason", lambda: MISSING)


@pytest.fixture
def with_onednn(monkeypatch):
    monkeypatch.setattr(ONEDNN, "reason", lambda: "")


def lines_of(log_lines, engine=""):
    """The lines about engines after two nets with that field."""
    with restored():
        minicaffe.set_mode_cpu()
        minicaffe.set_engine("DEFAULT")
        for _ in range(2):
            net_from_text(NET.format(engine=engine))
    return [line.split("] ", 1)[1] for line in log_lines if "] Engine" in line]


@pytest.mark.parametrize("engine", ["", "engine: MKLDNN"])
def test_without_onednn_one_line_gives_the_reason(without_onednn, log_lines, engine):
    assert lines_of(log_lines, engine) == [f"Engine CAFFE (NUMPY) computes in place of ONEDNN: {MISSING}"]


def test_an_engine_of_the_other_mode(with_onednn, monkeypatch, log_lines):
    monkeypatch.setattr(ONEDNN, "takes", lambda dtype: True)
    monkeypatch.setattr(registry, "layer_class", lambda name, engine, layer: registry._registry[name]["CAFFE"])
    assert lines_of(log_lines, "engine: CUDNN") == ["Engine ONEDNN computes in place of CUDNN: it is for GPU mode"]


def test_both_are_in_one_line(without_onednn, log_lines):
    assert lines_of(log_lines, "engine: CUDNN") == [
        "Engine CAFFE (NUMPY) computes in place of CUDNN: it is for GPU mode; "
        f"CAFFE (NUMPY) computes in place of ONEDNN: {MISSING}"
    ]


@pytest.mark.parametrize("engine", ["", "engine: CAFFE"])
def test_no_line_where_the_engine_computes(with_onednn, log_lines, engine):
    assert lines_of(log_lines, engine) == []


def test_no_line_where_numpy_is_requested(without_onednn, log_lines):
    assert lines_of(log_lines, "engine: CAFFE") == []


def test_a_training_without_the_library_has_one_line(tmp_path):
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "data" type: "DummyData" top: "x" top: "t"
                dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }""")
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" test_iter: 1 test_interval: 1 base_lr: 0.01 lr_policy: "fixed" max_iter: 1 '
        "solver_mode: CPU snapshot_after_train: false"
    )
    command = [sys.executable, "-m", "minicaffe", "train", "--solver", "solver.prototxt"]
    env = {**os.environ, "MINICAFFE_ONEDNN": str(tmp_path / "none.so.3"), "PYTHONPATH": ROOT}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "] Engine" in line]
    assert len(lines) == 1 and "computes in place of ONEDNN: no usable " in lines[0], done.stderr
    assert done.stderr.index(lines[0]) < done.stderr.index("Creating Layer")
