"""The segmentation net of models/unet_shapes, on a few drawn pictures."""

import os

import numpy as np
import pytest

import minicaffe
from helpers import own_models
from minicaffe import TEST, Net, models
from minicaffe.data.datasets import shapes
from minicaffe.models.zoo.segmentation import unet_shapes
from minicaffe.solvers import get_solver

FOLDER = models.folder("unet_shapes")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes.prepare("data/shapes64", train=12, test=6, size=64, voc_folder=True)


def small_solver():
    """The solver with batches of 4 and 2."""
    return own_models.small_solver("unet_shapes", "dense_image_data_param", (4, 2), test_iter=3)


@pytest.mark.parametrize("part", ["train_test", "deploy"])
def test_the_files_are_those_of_the_function(part):
    own_models.assert_written_by("unet_shapes", unet_shapes, part)


def test_files_and_solver():
    own_models.assert_complete("unet_shapes", "dense_image_data_param", unet_shapes(), tested=500)


def test_it_trains_is_scored_and_its_weights_fit_the_deploy_net(drawn):
    solver = get_solver(small_solver())
    first = solver.net.run_forward() or solver.net.loss()
    solver.step(15)
    assert solver.net.loss() < first
    scores = solver.test()
    assert len(scores["accuracy"]) == 3 and all(0 <= score <= 1 for score in scores["accuracy"])
    net = Net(os.path.join(FOLDER, "deploy.prototxt"), TEST, weights=solver.snapshot())
    image = np.random.default_rng(1).standard_normal(net.blobs["data"].shape)
    prob = net.forward(data=image)["prob"]
    assert prob.shape == (1, 6, 64, 64)
    np.testing.assert_allclose(prob.sum(1), 1, atol=1e-5)


def test_check_finds_nothing(drawn):
    findings = minicaffe.check(small_solver())
    assert [each for each in findings if each.level != "info"] == []
