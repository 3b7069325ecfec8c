"""Trainings of small nets by SSD's fork of Caffe: 21 steps, with a test of mAP before the first and every ten."""

import logging
import pathlib
import re

import numpy as np
import pytest

import minicaffe
from helpers import golden
from minicaffe.solvers.average_precision import average_precision
from minicaffe.testing import assert_close

TRAININGS = [path for path in golden.SSD if path.parent.name == "ssdtrain"]
PRECISIONS = [path for path in golden.SSD if path.parent.name == "ap"]
STEPS = 21


def test_the_cases_are_there():
    assert (len(TRAININGS), len(PRECISIONS)) == (6, 24)


@pytest.mark.parametrize("path", PRECISIONS, ids=lambda path: path.stem)
def test_average_precision_is_the_originals_to_the_bit(path):
    case = golden.read(path)
    np.testing.assert_array_equal(case["fp"], 1 - case["tp"])
    got = average_precision(case["score"], case["tp"], int(case["num_pos"]), str(case["version"]))
    assert got == case["ap"]


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_training(path, engine, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "minicaffe")
    case = golden.read(path)
    golden.write_files(case)
    pathlib.Path("net.prototxt").write_text(str(case["net"]))
    pathlib.Path("solver.prototxt").write_text(str(case["solver"]))
    solver = minicaffe.get_solver("solver.prototxt")
    for layer, index, values in golden.params(case, "before"):
        solver.net.params[layer][index].data[...] = values
    losses, found = [], Found(solver)
    for _ in range(STEPS):
        solver.step(1)
        losses.append(float(solver.net.blobs["mbox_loss"].data))  # of the last pass
    # rounding errors accumulate over the steps, and priors change their matches
    assert_close(losses, case["loss"], "losses", rtol=1e-3, atol=1e-4)
    for layer, index, values in golden.params(case, "after"):
        assert_close(solver.net.params[layer][index].data, values, f"{layer} {index}", rtol=2e-3, atol=1e-3)
    assert_close(found.map, case["map"], "mAP", rtol=1e-3, atol=1e-4)
    classes = [float(line[1]) for line in map(re.compile(r"class\d+: (\S+)").fullmatch, caplog.messages) if line]
    assert_close(classes, case["class_ap"][:, 2], "average precision of each class", rtol=1e-3, atol=1e-4)


class Found:
    """Observer that keeps the mAP of each test."""

    def __init__(self, solver):
        self.map = []
        solver.observers.append(self)

    def on_test(self, solver, net_id, scores):
        self.map += [value for values in scores.values() for value in values]
