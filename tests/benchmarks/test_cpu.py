"""benchmarks/cpu.py runs from end to end, at a tiny size."""

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from helpers.scripts import script
from minicaffe import onednn

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "cpu.py"


def run(*words, cwd):
    done = subprocess.run([sys.executable, SCRIPT, *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cpu():
    """The script as a module."""
    with script(SCRIPT) as module:
        yield module


def test_a_race(tmp_path):
    ours = ["minicaffe"] * onednn.available() + ["minicaffe CAFFE"]
    sizes = ("--batches", "2", "--rounds", "1", "--steps", "2", "--threads", "1")
    lines = run("lenet", *sizes, "--only", *ours, cwd=tmp_path)
    assert lines[1] == "lenet, training, batch 2, 1 threads: milliseconds a step, median of 2"
    assert lines[2].split() == ["median", "25", "%", "ratio", "start", "s", "peak", "MB"]
    assert [line[2:26].strip() for line in lines[3:]] == ours
    assert all(float(number) >= 0 for line in lines[3:] for number in line[26:].split())


def test_another_checkout_takes_part(tmp_path):
    package = tmp_path / "other" / "minicaffe"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this is the other one')")
    options = ("--rounds", "1", "--steps", "1", "--threads", "1", "--processor-time")
    only = ("--only", "minicaffe CAFFE", "before CAFFE")
    lines = run("lenet", "--batches", "2", *options, *only, "--against", package.parent, cwd=tmp_path)
    assert lines[2].startswith("  before CAFFE: does not take part: ")
    assert lines[-1][2:26].strip() == "minicaffe CAFFE"


def test_the_times_of_layers(tmp_path):
    lines = run("lenet", "--batches", "2", "--layers", "--engine", "CAFFE", cwd=tmp_path)
    assert [line.split()[0] for line in lines[2:]][:3] == ["input", "conv1", "pool1"]
    assert "GFLOP/s" in lines[3] and lines[-1].split()[0] == "all"


def test_a_contestant_that_cannot_start_is_named(cpu, capsys):
    kinds = {"minicaffe CAFFE": "CAFFE", "other": "OTHER"}
    table = {name: (cpu.CpuMinicaffe, variant, "minicaffe", True) for name, variant in kinds.items()}
    cpu.race("lenet", table, 2, 1, 1, 1, "perf_counter")
    printed = capsys.readouterr().out
    assert "  other: does not take part: " in printed and "'OTHER'" in printed
    assert "  minicaffe CAFFE  " in printed


def test_numbers_that_differ_are_named(cpu):
    one = {"loss": [np.float32(2)], "ip": [np.array([1.0, -4.0]), np.array([0.001])]}
    assert cpu.compare(one, one) == ""
    assert cpu.compare(one, {"loss": [np.float32(2.02)]}) == "loss differs by 1.0e-02 of its largest value"
    assert cpu.compare(one, {"loss": [np.float32(2.02)]}, "bf16") == ""
    assert cpu.compare(one, {"ip": [np.array([1.0, -4.0]), np.array([0.401])]}).startswith("ip differs by 1.0e-01")
    assert cpu.compare(one, {"ip": [np.array([1.0, np.nan]), np.array([0.001])]}).startswith("ip differs by nan")


def test_fused_layers_are_timed_as_one(cpu):
    layers = [types.SimpleNamespace(forward=lambda *blobs: None) for _ in range(4)]
    fused = {1: types.SimpleNamespace(forward=lambda: None, end=2)}
    net = types.SimpleNamespace(layers=layers, bottoms=[[]] * 4, tops=[[]] * 4, fused=fused)
    parts = cpu._forward_passes(net, training=False)
    assert list(parts) == [0, 1, 3] and parts[1] is fused[1].forward
    assert list(cpu._forward_passes(net, training=True)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name, last", [("ssd300", "DetectionOutput"), ("ssd300_maps", "Softmax"), ("unet", "Softmax")])
def test_nets_end_in_score_and_prob(cpu, name, last):
    net, training, batch = cpu.build(name, 2)
    assert (training, batch, list(net.layer[0].input_param.shape[0].dim)[0]) == (False, 2, 2)
    assert net.layer[-1].type == last and list(net.layer[-1].top) == ["prob"]
    made = {top for layer in net.layer for top in layer.top}
    assert "score" in made and made >= {bottom for layer in net.layer for bottom in layer.bottom}
