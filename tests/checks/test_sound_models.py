"""The nets of models/ on small data sets like theirs: nothing above info in any stage."""

import os

import numpy as np
import pytest

import minicaffe
from helpers.checked import database
from minicaffe import models
from minicaffe.core.random import seeded
from minicaffe.data.db import open_db
from minicaffe.data.mean import compute_mean, write_mean
from minicaffe.proto import read_net, read_solver
from minicaffe.solvers import get_solver

RECORDS = 240
BATCH = 12
NETS = ["cifar10_full", "cifar10_full_sigmoid", "cifar10_full_sigmoid_bn", "cifar10_quick", "cifar10_resnet20", "lenet"]


def pictures(labels, shape, seed):
    """Pictures with a shade and a gradient of their class, of one size, uint8."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    rows, columns = np.mgrid[0:height, 0:width]
    for label in labels:
        angle, shade = label * np.pi / 5, rng.normal(115, 40, (channels, 1, 1))
        waves = 30 * np.sin((rows * np.cos(angle) + columns * np.sin(angle)) / 3)
        yield np.clip(shade + waves + rng.normal(0, 30, shape), 0, 255).astype(np.uint8)


def digits(labels, shape, seed):
    """Bright strokes on black."""
    for label, picture in zip(labels, pictures(labels, shape, seed)):
        yield np.where(picture > 150 + label, 250, 0).astype(np.uint8)


@pytest.fixture
def data_sets(tmp_path, monkeypatch):
    """A working directory with data sets of the layout that models/ expects."""
    monkeypatch.chdir(tmp_path)
    for name, shape, make in (("cifar10", (3, 32, 32), pictures), ("mnist", (1, 28, 28), digits)):
        os.makedirs(f"data/{name}")
        for seed, part in enumerate(("train", "test")):
            labels = np.random.default_rng(seed).permutation(np.arange(RECORDS) % 10)
            database(f"data/{name}/{name}_{part}_lmdb", labels, make(labels, shape, seed))
    labels = np.random.default_rng(2).permutation(np.arange(RECORDS) % 10)
    database("data/cifar10/cifar10_train_pad4_lmdb", labels, pictures(labels, (3, 40, 40), 2))
    with open_db("data/cifar10/cifar10_train_lmdb") as train:
        write_mean("data/cifar10/mean.binaryproto", compute_mean(train))


def solver_of(name):
    """The solver of a model, with smaller batches."""
    folder = models.folder(name)
    solver = read_solver(os.path.join(folder, "solver.prototxt"))
    net = read_net(os.path.join(folder, "train_test.prototxt"))
    for layer in net.layer:
        if layer.type == "Data":
            layer.data_param.batch_size = BATCH
    solver.test_iter[:] = [RECORDS // BATCH]
    solver.ClearField("net")
    solver.net_param.CopyFrom(net)
    solver.snapshot = 0
    return solver


def grave(findings):
    return [each for each in findings if each.level != "info"]


@pytest.mark.parametrize("name", NETS)
def test_from_scratch(name, data_sets):
    assert grave(minicaffe.check(solver_of(name))) == []


@pytest.mark.parametrize("name", ["cifar10_resnet20", "lenet"])
def test_fine_tuning(name, data_sets):
    """Weights after some iterations, with the last layer renamed for fewer classes or the same ones."""
    param = solver_of(name)
    param.base_lr = 0.001
    with seeded(1):
        solver = get_solver(param)
        solver.step(5)
        solver.net.save("start.caffemodel")
    assert grave(minicaffe.check(param, ["start.caffemodel"])) == []
    last = [layer for layer in param.net_param.layer if layer.type == "InnerProduct"][-1]
    last.name = "another"
    assert grave(minicaffe.check(param, ["start.caffemodel"])) == []
