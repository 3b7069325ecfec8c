"""benchmarks/gpu.py runs from end to end, at tiny sizes, on a real or emulated device."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.scripts import script
from minicaffe.data.datasets import synthetic

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def run(*words, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "MINICAFFE_GRAPH"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", *words], cwd=cwd, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def gpu():
    """The script as a module."""
    with script(SCRIPT) as module:
        yield module


@pytest.mark.gpu
def test_a_race(cuda_device, tmp_path):
    ours = ("minicaffe float32",)
    text = run("--only", "cifar10_full_sigmoid_bn", "--json", "out.json", "--with", *ours, cwd=tmp_path)
    results = json.loads((tmp_path / "out.json").read_text())
    assert [(c["net"], c["task"]) for c in results["contests"]] == [
        ("cifar10_full_sigmoid_bn", task) for task in ("training", "inference")
    ]
    for contest in results["contests"]:
        assert [row["name"] for row in contest["contestants"]] == [
            f"{name} {way}" for name in ours for way in ("graph", "plain")
        ]
        assert all(row["right"] and row["ms"] > 0 for row in contest["contestants"])
        for name in ours:
            profile = contest["profile"][name]
            assert profile["captured"] and profile["floor_ms"] > 0
            assert any(kernel.startswith("convolution.") for kernel in profile["kernels"])
            assert ("solver.sgd" in profile["kernels"]) == (contest["task"] == "training")
    assert "WRONG" not in text


@pytest.mark.gpu
def test_from_the_database_to_the_accuracy(cuda_device, tmp_path):
    synthetic.prepare(str(tmp_path / "data"), train=200, test=100)
    text = run("--cifar10", "data", "--log", "train.log", "--json", "out.json", cwd=tmp_path)
    found = json.loads((tmp_path / "out.json").read_text())["end_to_end"]
    assert found["iterations"] == 10 and found["seconds"] > 0 and 0 <= found["accuracies"][-1] <= 1
    log = (tmp_path / "train.log").read_text()
    assert log.count("Optimization Done.") >= 3 and "Use GPU" in log or "GPU 0" in log
    assert "accuracy" in text


def test_the_work_that_no_step_can_avoid(gpu):
    """A convolution 1x1 from 2 to 3 channels over 2 samples of 4x4, by hand."""
    import minicaffe
    from minicaffe.proto import caffe_pb2, parse_text

    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 2 dim: 4 dim: 4 } } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 3 kernel_size: 1 } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    """
    net = minicaffe.Net(parse_text(text, caffe_pb2.NetParameter()), phase=minicaffe.TEST)
    profile = importlib.import_module("contestants.gpu_profile")
    flop, touched = 2 * 2 * 16 * 2 * 3, 4 * (2 * 16 * 2 + 2 * 16 * 3 + 2 * 3 + 3)
    assert profile.least_work(net, training=False) == [(0, 0), (flop, touched), (0, 0)]
    assert profile.floor([(10.0, 1.0), (1.0, 10.0)], peak=10.0, bandwidth=1.0) == 11.0


def test_a_process_that_ends_is_told_and_started_anew(gpu):
    process = gpu.start("PyTorch float32", smoke=True)
    process.begin("no such command")
    process.asked = "build"
    with pytest.raises(RuntimeError):
        process.receive()
    process.process.kill()
    process.process.join()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ended"):
            process.ask("run", "plain", 1)
    process.begin("ceilings")
    assert process.process.is_alive()
    process.end()
    with pytest.raises(RuntimeError, match="ended"):
        process.receive()


def test_numbers_that_differ_are_found(gpu):
    one = {"loss": [np.float32(2)], "ip": [np.array([1.0, -4.0]), np.array([0.001])]}
    other = {"loss": [np.float32(2.02)], "ip": [np.array([1.0, -4.0]), np.array([0.401])]}
    assert gpu.differences(one, one) == (0, 0)
    assert gpu.differences(one, other) == pytest.approx((0.01, 0.1), rel=1e-3)
    other["ip"][0][0] = np.nan
    assert not gpu.differences(one, other)[1] <= 1


@pytest.mark.parametrize("smoke", [True, False])
def test_nets_of_both_tasks_end_in_what_is_compared(gpu, smoke):
    for name, batch in gpu.contests(smoke):
        training, inference = (gpu.build(name, batch, task, smoke) for task in (True, False))
        inputs = [
            [top for layer in net.layer if layer.type == "Input" for top in layer.top] for net in (training, inference)
        ]
        assert inputs == [["data", "label"], ["data"]]
        assert (training.layer[-1].type, inference.layer[-1].type) == ("SoftmaxWithLoss", "Softmax")
        assert training.layer[-1].bottom[0] == inference.layer[-1].bottom[0] == "score"
        assert training.layer[0].input_param.shape[0].dim[0] == batch
