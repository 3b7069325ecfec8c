"""The detector of models/ssd_shapes, on a few drawn pictures."""

import os

import numpy as np
import pytest

import minicaffe
from helpers import own_models
from minicaffe import TEST, Net, models
from minicaffe.data.datasets import shapes
from minicaffe.models.zoo.ssd import ssd_shapes
from minicaffe.solvers import get_solver

FOLDER = models.folder("ssd_shapes")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes.prepare(train=12, test=6)


def small_solver():
    """The solver with batches of 4 and 2."""
    return own_models.small_solver("ssd_shapes", "data_param", (4, 2), test_iter=3)


@pytest.mark.parametrize("part", ["train_test", "deploy"])
def test_the_files_are_those_of_the_function(part):
    own_models.assert_written_by("ssd_shapes", ssd_shapes, part)


def test_files_and_solver():
    own_models.assert_complete("ssd_shapes", "data_param", ssd_shapes(), tested=500)


def test_it_trains_is_scored_and_its_weights_fit_the_deploy_net(drawn):
    solver = get_solver(small_solver())
    first = solver.net.run_forward() or solver.net.loss()
    solver.step(12)
    assert solver.net.loss() < first
    scores = solver.test()
    assert set(scores) == {"detection_eval"} and 0 <= scores["detection_eval"][0] <= 1
    net = Net(os.path.join(FOLDER, "deploy.prototxt"), TEST, weights=solver.snapshot())
    rows = net.forward(data=np.zeros(net.blobs["data"].shape))["detection_out"]
    assert rows.shape[:2] == (1, 1) and rows.shape[3] == 7


def test_check_finds_nothing(drawn):
    findings = minicaffe.check(small_solver())
    assert [each for each in findings if each.level != "info"] == []
