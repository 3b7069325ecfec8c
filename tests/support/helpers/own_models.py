"""What tests of nets in models/ with a data set of their own share: a solver with small batches, and their files."""

from __future__ import annotations

import os
from collections.abc import Callable

from minicaffe import TEST, models
from minicaffe.proto import caffe_pb2, read_net, read_solver


def small_solver(name: str, data: str, batches: tuple[int, int], test_iter: int) -> caffe_pb2.SolverParameter:
    """The solver of a net; data: the parameter of its data layers; batches: their sizes in TRAIN and in TEST."""
    param = read_solver(os.path.join(models.folder(name), "solver.prototxt"))
    param.net_param.CopyFrom(read_net(os.path.join(models.folder(name), "train_test.prototxt")))
    param.ClearField("net")
    for layer in param.net_param.layer:
        if layer.HasField(data):
            getattr(layer, data).batch_size = batches[layer.include[0].phase == TEST]
    param.test_iter[:] = [test_iter]
    param.snapshot_prefix, param.random_seed = "here", 1
    return param


def assert_written_by(name: str, net: Callable[[str], caffe_pb2.NetParameter], part: str) -> None:
    """The file of a part, train_test or deploy, is what the function of the zoo returns."""
    written = read_net(os.path.join(models.folder(name), f"{part}.prototxt"))
    written.ClearField("state")
    assert written == net(part)


def assert_complete(name: str, data: str, net: caffe_pb2.NetParameter, tested: int) -> None:
    """The folder has its files, and the solver tests each of so many samples once."""
    assert {"readme.md", "solver.prototxt", "train.log", "curve.png"} <= set(os.listdir(models.folder(name)))
    param = read_solver(os.path.join(models.folder(name), "solver.prototxt"))
    assert param.net == f"models/{name}/train_test.prototxt"
    assert param.snapshot_prefix == f"models/{name}/{name}" and param.max_iter % param.snapshot == 0
    test = next(layer for layer in net.layer if layer.include and layer.include[0].phase == TEST)
    assert list(param.test_iter) == [tested // getattr(test, data).batch_size]
