"""Every classifier in models/ can be built, on random pictures, and has the expected number of parameters."""

import os
import re

import numpy as np
import pytest

from helpers.readers import write_images
from minicaffe import Net, models
from minicaffe.data.mean import write_mean
from minicaffe.errors import UsageError
from minicaffe.proto import read_net, read_solver
from minicaffe.solvers import get_solver

#: number of learned parameters, and of the statistics of BatchNorm layers
PARAMETERS = {
    "cifar10_full": (89578, 0),  # 2432 + 25632 + 51264 + 10250
    "cifar10_full_sigmoid": (89578, 0),
    "cifar10_full_sigmoid_bn": (89450, 259),  # without the three convolutions' 128 biases
    "cifar10_quick": (145578, 0),  # 2432 + 25632 + 51264 + 65600 + 650
    "cifar10_resnet20": (272474, 1589),
    "lenet": (431080, 0),  # 520 + 25050 + 400500 + 5010
}


def path(name: str, file: str) -> str:
    return os.path.join(models.folder(name), file)


def solvers(name: str) -> list[str]:
    return sorted(file for file in os.listdir(models.folder(name)) if file.startswith("solver"))


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    """A working directory with the data sets of the nets, each with ten random images."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    os.makedirs("data/cifar10")
    os.makedirs("data/mnist")
    for where, shape in (
        ("data/cifar10/cifar10_train_lmdb", (3, 32, 32)),
        ("data/cifar10/cifar10_test_lmdb", (3, 32, 32)),
        ("data/cifar10/cifar10_train_pad4_lmdb", (3, 40, 40)),
        ("data/mnist/mnist_train_lmdb", (1, 28, 28)),
        ("data/mnist/mnist_test_lmdb", (1, 28, 28)),
    ):
        write_images(where, rng.integers(0, 256, (10, *shape), np.uint8))
    write_mean("data/cifar10/mean.binaryproto", np.full((3, 32, 32), 120, np.float32))
    return tmp_path


def small(param):
    """Set the batch size of Data layers to 4, and return the net."""
    for layer in param.layer:
        if layer.type == "Data":
            layer.data_param.batch_size = 4
    return param


def test_the_list_is_complete():
    others = ["sphereface_faces", "ssd_shapes", "unet_shapes", "words"]  # which have tests of their own
    assert models.names() == sorted([*PARAMETERS, *others])
    with pytest.raises(UsageError, match='did you mean "lenet"'):
        models.folder("lennet")


@pytest.mark.parametrize("name", sorted(PARAMETERS))
class TestModel:
    def test_files(self, name):
        files = set(os.listdir(models.folder(name)))
        assert {"train_test.prototxt", "deploy.prototxt", "solver.prototxt", "readme.md"} <= files
        with open(path(name, "readme.md")) as file:
            text = file.read()
        assert "**Source.**" in text and "## Results" in text and "minicaffe train --solver" in text

    def test_deploy_counts_its_parameters_and_gives_probabilities(self, name):
        net = Net(path(name, "deploy.prototxt"), 1)
        assert counts(net) == PARAMETERS[name]
        assert net.inputs == ["data"] and net.outputs == ["prob"]
        image = np.random.default_rng(1).standard_normal(net.blobs["data"].shape)
        prob = net.forward(data=image)["prob"]
        assert prob.shape == (1, 10)
        assert prob.sum() == pytest.approx(1, abs=1e-5)

    def test_trains_and_its_weights_fit_the_deploy_net(self, name, small_data):
        param = read_solver(path(name, "solver.prototxt"))
        param.net_param.CopyFrom(small(read_net(path(name, "train_test.prototxt"))))
        param.ClearField("net")
        param.snapshot_prefix = "here"
        param.test_iter[:] = [1]
        param.random_seed = 1
        solver = get_solver(param)
        assert counts(solver.net) == PARAMETERS[name]
        before = [blob.read_data().copy() for blob in solver.net.params["ip1"]]
        solver.step(1)
        assert any((old != blob.read_data()).any() for old, blob in zip(before, solver.net.params["ip1"]))
        scores = solver.test()
        assert set(scores) == {"accuracy", "loss"}
        deploy = Net(path(name, "deploy.prototxt"), 1, weights=solver.snapshot())
        for layer, blobs in deploy.params.items():
            for mine, trained in zip(blobs, solver.net.params[layer]):
                np.testing.assert_array_equal(mine.read_data(), trained.read_data())

    def test_solvers_name_files_and_steps_that_follow_each_other(self, name):
        end = 0
        for file in solvers(name):
            param = read_solver(path(name, file))
            assert param.net == f"models/{name}/train_test.prototxt"
            assert param.snapshot_prefix == f"models/{name}/{name}"
            assert param.snapshot_format == param.HDF5 and not param.HasField("solver_mode")
            assert param.max_iter > end and param.max_iter % param.snapshot == 0
            if end:
                state = f"{param.snapshot_prefix}_iter_{end}.solverstate.h5"
                with open(path(name, "readme.md")) as readme:
                    assert re.search(rf"{file} \\\n +--snapshot {re.escape(state)}", readme.read())
            end = param.max_iter


def test_the_test_sets_are_covered_once():
    """test_iter times the TEST batch size is 10,000, the number of test images."""
    for name in PARAMETERS:
        (test_iter,) = read_solver(path(name, "solver.prototxt")).test_iter
        data = [layer for layer in read_net(path(name, "train_test.prototxt")).layer if layer.type == "Data"]
        (batch,) = (layer.data_param.batch_size for layer in data if layer.include[0].phase == 1)
        assert test_iter * batch == 10000, name


def counts(net) -> tuple[int, int]:
    statistics = sum(b.count for layer in net.layers if layer.type == "BatchNorm" for b in layer.blobs)
    return sum(b.count for layer in net.layers for b in layer.blobs) - statistics, statistics
