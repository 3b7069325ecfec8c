"""A net in TEST from its inputs to its outputs: data layers, losses and what reads them are left out."""

import numpy as np
import pytest

from helpers.nets import layer_text, net_from_text
from minicaffe import TEST, TRAIN
from minicaffe.errors import ExportError
from minicaffe.export.deploy import deployed

DATA = (
    'layer { name: "set" type: "DummyData" top: "data" top: "label" dummy_data_param { '
    "shape { dim: 4 dim: 3 } shape { dim: 4 } } }\n"
)
PRODUCT = layer_text(
    "ip", "InnerProduct", "data", "ip", 'inner_product_param { num_output: 2 weight_filler { type: "xavier" } }'
)
PROB = layer_text("prob", "Softmax", "ip", "prob")


def names(net):
    return [layer.name for layer in net.param.layer]


def deploy(*layers: str, phase: int = TEST):
    return deployed(net_from_text("".join(layers), phase), lambda layer: layer.type == "Softmax")


def test_data_and_losses_are_left_out_and_their_bottoms_are_outputs():
    net = deploy(
        DATA,
        PRODUCT,
        layer_text("loss", "SoftmaxWithLoss", "ip label", "loss"),
        layer_text("half", "Power", "loss", "half", "power_param { scale: 0.5 }"),
        layer_text("accuracy", "Accuracy", "ip label", "accuracy"),
    )
    assert names(net) == ["set", "ip"]
    assert net.inputs == ["data"] and net.outputs == ["ip"]
    assert net.blobs["data"].shape == (4, 3)


def test_the_parameters_are_the_same():
    text = DATA + PRODUCT + layer_text("loss", "SoftmaxWithLoss", "ip label", "loss")
    net = net_from_text(text, TEST)
    made = deployed(net, lambda layer: False)
    for mine, theirs in zip(made.params["ip"], net.params["ip"]):
        np.testing.assert_array_equal(mine.data, theirs.data)


def test_a_net_that_is_deployed_is_returned_as_it_is():
    input_layer = layer_text("data", "Input", "", "data", "input_param { shape { dim: 4 dim: 3 } }")
    net = net_from_text(input_layer + PRODUCT + PROB, TEST)
    assert deployed(net, lambda layer: layer.type == "Softmax") is net


def test_silenced_blobs_are_no_outputs():
    net = deploy(
        DATA, PRODUCT, layer_text("quiet", "Silence", "label", ""), layer_text("prob", "Softmax", "ip", "prob")
    )
    assert net.outputs == ["prob"]


def test_what_cannot_be_deployed():
    with pytest.raises(ExportError, match="is in TRAIN: build it with phase TEST"):
        deploy(DATA, PRODUCT, phase=TRAIN)
    with pytest.raises(ExportError, match="no layers between its data and its losses"):
        deploy(DATA, layer_text("loss", "EuclideanLoss", "data data", "loss"))
