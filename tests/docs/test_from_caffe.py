"""The tables of docs/from_caffe.md: programs and flags exist, code of scripts runs."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe as caffe
from minicaffe.cli.command import find
from minicaffe.cli.entry import MODULES
from minicaffe.core.settings import restored
from minicaffe.errors import DeviceError, UsageError

ROOT = Path(caffe.__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "from_caffe.md").read_text(encoding="utf-8").partition("## Everything, one by one")[2]
STATUS = {"same", "better", "absent"}


def rows(title):
    """The rows of a table, as lists of cells; those in its head are left out."""
    section = PAGE.partition(f"### {title}\n")[2].partition("\n### ")[0]
    lines = [line.strip("|") for line in section.split("\n") if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r" \|(?: |$)", line)] for line in lines]


PROGRAMS, FLAGS, SCRIPTS = rows("Programs"), rows("Flags of `caffe`"), rows("Scripts")


def test_every_row_has_a_status():
    assert len(PROGRAMS) > 25 and len(FLAGS) > 10 and len(SCRIPTS) > 40
    assert {row[1] for row in PROGRAMS} | {row[2] for row in FLAGS} | {row[1] for row in SCRIPTS} == STATUS
    assert not [row for row in PROGRAMS if row[1] == "absent" and not row[2]]


@pytest.mark.parametrize("row", PROGRAMS, ids=lambda row: row[0][:40])
def test_commands_and_flags_of_the_programs_exist(row):
    names = re.findall(r"`minicaffe ([\w-]+)", row[2])
    assert set(names) <= set(MODULES)
    strings = {string for name in names for string in find(name, MODULES).parser()._option_string_actions}
    if "tools/" not in row[2]:
        assert set(re.findall(r"`(--[\w-]+)`", row[2])) <= strings


@pytest.mark.parametrize("row", FLAGS, ids=lambda row: row[0])
def test_flags_of_caffe_exist(row):
    if row[2] == "absent" or not row[0].startswith("`-"):
        return
    commands = ("train", "test", "time", "device_query") if row[1] == "all" else row[1].split(", ")
    for command in commands:
        for flag in re.findall(r"`(-\w+)`", row[0]):
            if flag != "-version":
                assert flag in find(command, MODULES).parser()._option_string_actions


def test_the_log_level_of_the_environment(project, run, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    status, _, err = run("time", "--model", "net.prototxt", "--iterations", "1")
    assert status == 0 and err == ""


DEPLOY = """input: "data" input_shape { dim: 1 dim: 1 dim: 8 dim: 8 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" } force_backward: true
"""
NET = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 6 dim: 5 } shape { dim: 6 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" test_iter: 1 test_interval: 4 base_lr: 0.05 lr_policy: "fixed" max_iter: 4 snapshot: 4
snapshot_prefix: "small" """


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("deploy.prototxt", DEPLOY), ("net.prototxt", NET), ("solver.prototxt", SOLVER)):
        (tmp_path / name).write_text(text)
    return tmp_path


def namespace():
    """The names that the code of the table uses."""
    rng = np.random.default_rng(0)
    for name in ("draw", "io", "coord_map"):
        importlib.import_module(f"minicaffe.{name}")
    other = caffe.Net("deploy.prototxt", caffe.TEST)
    other.save("w.caffemodel")
    Path("rcnn.prototxt").write_text(DEPLOY.replace("dim: 1 dim: 1 dim: 8", "dim: 1 dim: 3 dim: 8"))
    caffe.Net("rcnn.prototxt", caffe.TEST).save("rcnn.caffemodel")
    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save("image.png")
    return {
        "caffe": caffe, "np": np, "L": caffe.layers, "P": caffe.params, "deploy": "deploy.prototxt", "other": other,
        "rcnn_deploy": "rcnn.prototxt", "rcnn_weights": "rcnn.caffemodel",
        "weights": "w.caffemodel", "image": np.ones((1, 1, 8, 8), np.float32), "png": "image.png",
        "batch": np.ones((2, 1, 8, 8), np.float32), "many": np.ones((3, 1, 8, 8), np.float32),
        "gradient": np.ones((2, 3), np.float32), "gradients": np.ones((3, 3), np.float32),
        "rgb": np.zeros((8, 8, 3), np.float32), "gray": np.zeros((8, 8, 1), np.float32),
        "solver_file": "solver.prototxt", "print_index": lambda index: None, "on_start": lambda: None,
        "on_gradient": lambda: None,
    }  # fmt: skip


def test_the_code_of_scripts_runs_in_order(project):
    names = namespace()
    refused = {'net.blobs["data"] = image': UsageError, "caffe.set_mode_gpu(); caffe.set_device(0)": DeviceError}
    with restored():
        for code, status, *_ in SCRIPTS:
            code = code.strip("`")
            assert status in ("same", "better")
            try:
                exec(code, names)
            except tuple(refused.values()) as error:
                assert isinstance(error, refused[code]), code
            except Exception as error:
                raise AssertionError(f"{code}: {error}") from error
            else:
                assert code not in refused or "gpu" in code  # with a GPU, there is no error
    assert names["solver"].iter == 5 and Path("net.png").exists()
