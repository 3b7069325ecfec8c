"""The net of models/words, on a few drawn words."""

import os

import numpy as np
import pytest

from helpers import own_models
from minicaffe import TEST, Net, models
from minicaffe.data.datasets import words
from minicaffe.models.zoo import ocr
from minicaffe.solvers import get_solver

FOLDER = models.folder("words")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words.prepare(train=8, test=4)


@pytest.mark.parametrize("part", ["train_test", "deploy"])
def test_the_files_are_those_of_the_function(part):
    own_models.assert_written_by("words", ocr.words, part)


def test_files_and_solver():
    own_models.assert_complete("words", "hdf5_data_param", ocr.words(), tested=1000)


def test_it_learns_words_by_heart_and_its_weights_fit_the_deploy_net(drawn):
    param = own_models.small_solver("words", "hdf5_data_param", (8, 4), test_iter=1)
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
