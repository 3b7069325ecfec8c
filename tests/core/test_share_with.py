"""Sharing of parameters between two nets, by the names of layers and of parameters."""

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text, solver_from_text
from minicaffe.errors import NetError

DATA = """
layer { name: "d" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 3 }
        data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 2 } } }
"""
SOLVER = """
base_lr: 0.1 lr_policy: "fixed" test_interval: 2
test_iter: 1 test_iter: 1 test_state {} test_state { level: 1 }
"""
IP = """
layer { name: "%s" type: "InnerProduct" bottom: "x" top: "%s" param { name: "w" } param { name: "b" } %s
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } bias_filler { type: "xavier" } } }
"""
FLAT = """
layer { name: "e" type: "DummyData" top: "y" dummy_data_param { shape { dim: 4 dim: 1 } } }
layer { name: "b" type: "InnerProduct" bottom: "y" top: "b" param { name: "w" share_mode: PERMISSIVE }
        inner_product_param { num_output: 9 weight_filler { type: "xavier" } } }
"""


def ip(name, rules=""):
    return IP % (name, name, rules)


LOSS = """
layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "t" top: "loss" include { phase: TRAIN } }
layer { name: "silence" type: "Silence" bottom: "t" include { phase: TEST } }
"""
A, B = ip("a"), ip("b", "include { phase: TEST }")
A_TRAIN = ip("a", "include { phase: TRAIN }")
A_PERMISSIVE = A.replace('name: "w"', 'name: "w" share_mode: PERMISSIVE')


def net(text, phase=minicaffe.TEST):
    return net_from_text(DATA + text, phase)


def memory(made, name, j=0):
    return next(layer for layer in made.layers if layer.name == name).blobs[j].data_memory


@pytest.mark.parametrize("text", [A + B, B + A, A_TRAIN + B, ip("c") + B + A], ids=["a b", "b a", "b only", "c b a"])
def test_every_layer_of_a_parameter_uses_the_trained_one(text):
    solver = solver_from_text(SOLVER, DATA + text + LOSS)
    solver.step(3)
    for test_net in solver.test_nets:
        for name in {"a", "b", "c"} & set(test_net.params):
            for j in range(2):
                assert memory(test_net, name, j) is memory(solver.net, "a", j), (name, j)
        test_net.forward()
        weights, bias = (blob.data for blob in solver.net.params["a"])
        np.testing.assert_allclose(test_net.blobs["b"].data[0], weights.sum(1) + bias, rtol=1e-5)


@pytest.mark.parametrize("text", [A_PERMISSIVE + FLAT, FLAT + A_PERMISSIVE, FLAT], ids=["a b", "b a", "b only"])
def test_permissive(text):
    made, trained = net(text), net(A, minicaffe.TRAIN)
    made.share_with(trained)
    assert made.params["b"][0].shape == (9, 1)
    assert memory(made, "b") is memory(trained, "a")


def test_a_parameter_of_another_shape_in_the_other_net_is_another_one():
    made, trained = net(ip("b").replace("num_output: 3", "num_output: 2")), net(A)
    before = made.params["b"][0].data.copy()
    made.share_with(trained)
    np.testing.assert_array_equal(made.params["b"][0].data, before)
    assert memory(made, "b") is not memory(trained, "a")


def test_layers_that_learn_apart_stay_apart():
    """If the other net has both layers, each shares with the layer of its name, as in Caffe."""
    trained = net((A + ip("b")).replace('param { name: "w" } param { name: "b" }', ""))
    made = net(A + ip("b"))
    made.share_with(trained)
    assert memory(made, "a") is memory(trained, "a") and memory(made, "b") is memory(trained, "b")


def test_layers_of_one_name_share_in_order():
    one = 'layer {{ name: "fc" type: "InnerProduct" bottom: "{}" top: "{}" inner_product_param {{ num_output: 3 }} }}'
    text = one.format("x", "y") + one.format("y", "z")
    made, trained = net(text), net(text)
    made.share_with(trained)
    for mine, theirs in zip(made.layers[1:], trained.layers[1:]):
        assert [blob.data_memory for blob in mine.blobs] == [blob.data_memory for blob in theirs.blobs]


def test_other_shapes_are_refused():
    with pytest.raises(NetError, match=r"'a': cannot share trained parameters: expected blobs .*\(2, 3\).*\(3, 3\)"):
        net(A.replace("num_output: 3", "num_output: 2")).share_with(net(A))
