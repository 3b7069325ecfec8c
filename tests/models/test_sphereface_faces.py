"""The net for faces of models/sphereface_faces, on a few drawn pictures."""

import os

import numpy as np
import pytest

import minicaffe
from helpers import own_models
from minicaffe import TEST, Net, models
from minicaffe.data.datasets import faces
from minicaffe.models.zoo.faces import sphereface_faces
from minicaffe.solvers import get_solver

FOLDER = models.folder("sphereface_faces")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces.prepare(train=40, test=8)


def small_solver():
    """The solver with batches of 8 and 4, in which lambda is small from the first iteration on."""
    param = own_models.small_solver("sphereface_faces", "data_param", (8, 4), test_iter=2)
    for layer in param.net_param.layer:
        if layer.type == "MarginInnerProduct":
            layer.margin_inner_product_param.iteration = 5000
    return param


@pytest.mark.parametrize("part", ["train_test", "deploy"])
def test_the_files_are_those_of_the_function(part):
    own_models.assert_written_by("sphereface_faces", sphereface_faces, part)


def test_files_and_solver():
    own_models.assert_complete("sphereface_faces", "data_param", sphereface_faces(), tested=2000)


def test_it_trains_is_scored_and_its_weights_fit_the_deploy_net(drawn):
    solver = get_solver(small_solver())
    first = solver.net.run_forward() or solver.net.loss()
    solver.step(10)
    assert solver.net.loss() < first
    (score,) = solver.test()["accuracy"]
    assert 0 <= score <= 1
    net = Net(os.path.join(FOLDER, "deploy.prototxt"), TEST, weights=solver.snapshot())
    feature = net.forward(data=np.random.default_rng(1).standard_normal(net.blobs["data"].shape))["feature"]
    assert feature.shape == (1, 64)
    np.testing.assert_allclose(np.square(feature).sum(), 1, atol=1e-4)


def test_the_accuracy_compares_cosines_with_the_threshold(drawn):
    solver = get_solver(small_solver())
    net = solver.test_nets[0]
    net.forward()
    features = net.blobs["feature"].data.reshape(4, 2, 64)
    cosine = (features[:, 0] * features[:, 1]).sum(1)
    np.testing.assert_allclose(net.blobs["cosine"].data.ravel(), cosine, atol=1e-5)
    right = (cosine > net.blobs["threshold"].data.ravel()) == (net.blobs["same"].data > 0)
    np.testing.assert_allclose(net.blobs["accuracy"].data, right.mean())


def test_check_finds_nothing(drawn):
    findings = minicaffe.check(small_solver())
    assert [each for each in findings if each.level != "info"] == []
