"""Predictors, against the net's own forward pass."""

import numpy as np
import pytest

from helpers.nets import layer_text, net_from_text
from minicaffe import TEST
from minicaffe.errors import ExportError, NetError, UsageError
from minicaffe.inference.predictor import Predictor

IP = 'inner_product_param { num_output: 4 weight_filler { type: "xavier" } }'
BODY = (
    layer_text("conv", "Convolution", "data", "conv",
               'convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } }')
    + layer_text("ip", "InnerProduct", "conv", "ip", IP)
)  # fmt: skip
DEPLOY = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }\n'
    + BODY
    + layer_text("prob", "Softmax", "ip", "prob")
)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(7, 3, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("blobs", [(), ("conv",), ("prob", "ip", "conv", "prob")])
def test_equal_to_forward_at_every_batch_size(images, blobs):
    net = net_from_text(DEPLOY, TEST)
    alone = net_from_text(DEPLOY, TEST)
    alone.share_with(net)
    predictor = Predictor(net, blobs)
    assert predictor.blobs == list(dict.fromkeys(blobs)) or not blobs and predictor.blobs == ["prob"]
    assert (predictor.input, predictor.shape, predictor.row_shape("conv")) == ("data", (2, 3, 6, 5), (3, 4, 3))
    for count in (2, 7, 1, 7):
        alone.blobs["data"].reshape(count, 3, 6, 5)
        alone.reshape()
        expected = alone.forward(blobs=["conv", "ip"], data=images[:count])
        made = predictor.predict(images[:count])
        assert list(made) == predictor.blobs
        for name, values in made.items():
            assert np.array_equal(values, expected[name]) and values.base is None


def test_a_net_with_data_and_loss_predicts_from_its_scores(images):
    data = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
      shape { dim: 2 dim: 3 dim: 6 dim: 5 } shape { dim: 2 } } }"""
    loss = layer_text("loss", "SoftmaxWithLoss", "ip label", "loss") + layer_text("a", "Accuracy", "ip label", "a")
    net = net_from_text(data + BODY + loss, TEST)
    predictor = Predictor(net)
    assert predictor.blobs == ["ip"] and predictor.net is not net
    alone = net_from_text(DEPLOY, TEST)
    alone.share_with(net)
    assert np.array_equal(predictor.predict(images[:2])["ip"], alone.forward(blobs=["ip"], data=images[:2])["ip"])


def test_what_is_refused(images):
    with pytest.raises(NetError, match="the net has no blob 'porb' \\(did you mean \"prob\""):
        Predictor(net_from_text(DEPLOY, TEST), ["porb"])
    two = 'input: "a" input_shape { dim: 1 dim: 2 } input: "b" input_shape { dim: 1 dim: 2 }'
    with pytest.raises(UsageError, match="expected one input, for images, got a, b"):
        Predictor(net_from_text(two + layer_text("sum", "Eltwise", "a b", "c"), TEST))
    with pytest.raises(ExportError, match="is in TRAIN"):
        Predictor(net_from_text("layer { name: 'd' type: 'DummyData' top: 'd' dummy_data_param { shape { dim: 1 } } }"))
    mean = layer_text("sum", "Reduction", "ip", "total")
    with pytest.raises(NetError, match=r"blob 'total' has shape \(\): its axis 0 is not the batch of 2 images"):
        Predictor(net_from_text(DEPLOY + mean, TEST)).predict(images[:2])


def test_an_input_with_the_name_of_an_argument(images):
    predictor = Predictor(net_from_text(DEPLOY.replace('"data"', '"blobs"'), TEST))
    assert predictor.predict(images)["prob"].shape == (7, 4)
