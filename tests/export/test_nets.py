"""Whole nets as ONNX, as they are and folded: those of models/, and small ones of the zoo."""

import os

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the packages onnx and onnxruntime")
from helpers.trained import randomize
from minicaffe import TEST, Net, models
from minicaffe.export.fold import fold
from minicaffe.export.onnx.checking import Check
from minicaffe.export.onnx.model import to_model
from minicaffe.models import zoo

ZOO = {
    "captioner": lambda: zoo.captioner(3, steps=5, words=30, hidden=16, features=20, training=False),
    "mobilenet": lambda: zoo.mobilenet(batch=1, size=64, classes=10, training=False),
    "squeezenet": lambda: zoo.squeezenet(batch=2, size=67, classes=10, training=False),
    "unet": lambda: zoo.unet(size=188, training=False, width=4),
}
LIMIT = 1e-5  # of the largest value; nets of many layers, in another order of sums, whose Softmax reads scores up to 30


@pytest.mark.parametrize("name", [*models.names(), *ZOO])
def test_a_net_and_its_folded_form(name):
    net = Net(ZOO[name]() if name in ZOO else os.path.join(models.folder(name), "deploy.prototxt"), phase=TEST)
    randomize(net)
    for each in (net, fold(net).net):
        exported = to_model(each)
        assert not exported.fixed
        check, rng = Check(exported), np.random.default_rng(0)
        for inputs in check.random_inputs():
            if name != "captioner":
                inputs = {key: rng.standard_normal(values.shape) for key, values in inputs.items()}
            assert all(difference.relative <= LIMIT for difference in check.run(inputs))
