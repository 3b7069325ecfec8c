"""The net for faces of models/sphereface_faces, on a few drawn pictures."""

import os

import numpy as np
import pytest

import minicaffe
from minicaffe import TEST, Net, models
from minicaffe.data.datasets import faces
from minicaffe.models.zoo.faces import sphereface_faces
from minicaffe.proto import read_net, read_solver
from minicaffe.solvers import get_solver

FOLDER = models.folder("sphereface_faces")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces.prepare(train=40, test=8)


def small_solver():
    """The solver with batches of 8 and 4, in which lambda is small from the first iteration on."""
    param = read_solver(os.path.join(FOLDER, "solver.prototxt"))
    param.net_param.CopyFrom(read_net(os.path.join(FOLDER, "train_test.prototxt")))
    param.ClearField("net")
    for layer in param.net_param.layer:
        if layer.type == "Data":
            layer.data_param.batch_size = 8 if layer.include[0].phase != TEST else 4
        if layer.type == "MarginInnerProduct":
            layer.margin_inner_product_param.iteration = 5000
    param.test_iter[:] = [2]
    param.snapshot_prefix, param.random_seed = "here", 1
    return param


@pytest.mark.parametrize("part", ["train_test", "deploy"])
def test_the_files_are_those_of_the_function(part):
    written = read_net(os.path.join(FOLDER, f"{part}.prototxt"))
    written.ClearField("state")
    assert written == sphereface_faces(part)


def test_files_and_solver():
    assert {"readme.md", "solver.prototxt", "train.log", "curve.png"} <= set(os.listdir(FOLDER))
    param = read_solver(os.path.join(FOLDER, "solver.prototxt"))
    assert param.net == "models/sphereface_faces/train_test.prototxt"
    prefix = "models/sphereface_faces/sphereface_faces"
    assert param.snapshot_prefix == prefix and param.max_iter % param.snapshot == 0
    test = next(x for x in sphereface_faces().layer if x.include and x.include[0].phase == TEST)
    assert list(param.test_iter) == [2000 // test.data_param.batch_size]  # all pairs once


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
