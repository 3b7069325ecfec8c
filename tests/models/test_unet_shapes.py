"""The segmentation net of models/unet_shapes, on a few drawn pictures."""

import os

import numpy as np
import pytest

import minicaffe
from minicaffe import TEST, Net, models
from minicaffe.data.datasets import shapes
from minicaffe.models.zoo.segmentation import unet_shapes
from minicaffe.proto import read_net, read_solver
from minicaffe.solvers import get_solver

FOLDER = models.folder("unet_shapes")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes.prepare("data/shapes64", train=12, test=6, size=64, voc_folder=True)


def small_solver():
    """The solver with batches of 4 and 2."""
    param = read_solver(os.path.join(FOLDER, "solver.prototxt"))
    param.net_param.CopyFrom(read_net(os.path.join(FOLDER, "train_test.prototxt")))
    param.ClearField("net")
    for layer in param.net_param.layer:
        if layer.type == "DenseImageData":
            layer.dense_image_data_param.batch_size = 4 if layer.include[0].phase != TEST else 2
    param.test_iter[:] = [3]
    param.snapshot_prefix, param.random_seed = "here", 1
    return param


@pytest.mark.parametrize("part", ["train_test", "deploy"])
def test_the_files_are_those_of_the_function(part):
    written = read_net(os.path.join(FOLDER, f"{part}.prototxt"))
    written.ClearField("state")
    assert written == unet_shapes(part)


def test_files_and_solver():
    assert {"readme.md", "solver.prototxt"} <= set(os.listdir(FOLDER))
    param = read_solver(os.path.join(FOLDER, "solver.prototxt"))
    assert param.net == "models/unet_shapes/train_test.prototxt"
    assert param.snapshot_prefix == "models/unet_shapes/unet_shapes" and param.max_iter % param.snapshot == 0
    test = next(x for x in unet_shapes().layer if x.include and x.include[0].phase == TEST)
    assert list(param.test_iter) == [500 // test.dense_image_data_param.batch_size]  # the test set once


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
