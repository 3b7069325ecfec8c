"""The net of models/words, on a few drawn words."""

import os

import numpy as np
import pytest

from minicaffe import TEST, Net, models
from minicaffe.data.datasets import words
from minicaffe.models.zoo import ocr
from minicaffe.proto import read_net, read_solver
from minicaffe.solvers import get_solver

FOLDER = models.folder("words")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words.prepare(train=8, test=4)


@pytest.mark.parametrize("part", ["train_test", "deploy"])
def test_the_files_are_those_of_the_function(part):
    written = read_net(os.path.join(FOLDER, f"{part}.prototxt"))
    written.ClearField("state")
    assert written == ocr.words(part)


def test_files_and_solver():
    assert {"readme.md", "solver.prototxt", "train.log", "curve.png"} <= set(os.listdir(FOLDER))
    param = read_solver(os.path.join(FOLDER, "solver.prototxt"))
    assert param.net == "models/words/train_test.prototxt"
    assert param.snapshot_prefix == "models/words/words" and param.max_iter % param.snapshot == 0
    batch = next(x for x in ocr.words().layer if x.include and x.include[0].phase == TEST).hdf5_data_param.batch_size
    assert list(param.test_iter) == [1000 // batch]  # the pictures of the test set, each once


def test_it_learns_words_by_heart_and_its_weights_fit_the_deploy_net(drawn):
    param = read_solver(os.path.join(FOLDER, "solver.prototxt"))
    param.net_param.CopyFrom(read_net(os.path.join(FOLDER, "train_test.prototxt")))
    param.ClearField("net")
    for layer in param.net_param.layer:
        if layer.type == "HDF5Data":
            layer.hdf5_data_param.batch_size = 8 if layer.include[0].phase != TEST else 4
    param.test_iter[:] = [1]
    param.snapshot_prefix, param.random_seed = "here", 1
    solver = get_solver(param)
    first = solver.net.run_forward() or solver.net.loss()
    solver.step(40)
    assert solver.net.loss() < 0.5 * first
    scores = solver.test()
    assert 0 <= scores["accuracy_words"][0] <= scores["accuracy_letters"][0] <= 1
    net = Net(os.path.join(FOLDER, "deploy.prototxt"), TEST, weights=solver.snapshot())
    net.blobs["data"].reshape(4, 1, 32, 96)
    net.blobs["data"].data[...] = solver.test_nets[0].blobs["data"].data
    found = net.forward()["labels"]
    assert found.shape == (4, 24, 1, 1) and (found >= -1).all() and (found <= 26).all()
    np.testing.assert_allclose(net.blobs["scores"].data, solver.test_nets[0].blobs["scores"].data, atol=1e-4)
