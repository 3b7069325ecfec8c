"""A backward pass calls a function after each layer, or group of layers, whose gradients are complete."""

import numpy as np
import pytest

from helpers.nets import layer_text, net_from_text
from minicaffe import Sharing
from minicaffe.core import random

_CONVOLUTION = 'convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }'

_PRODUCT = 'inner_product_param { num_output: 5 weight_filler { type: "xavier" } }'


def _convolution(k, bottom, top):
    """A convolution and layers that are fused behind it."""
    return (
        layer_text(f"conv{k}", "Convolution", bottom, top, _CONVOLUTION)
        + layer_text(f"bn{k}", "BatchNorm", top, top)
        + layer_text(f"scale{k}", "Scale", top, top, "scale_param { bias_term: true }")
    )


#: with a residual block, whose sum is fused, too, and dropout behind an InnerProduct
NET = (
    layer_text("data", "DummyData", "", "x t", """
        dummy_data_param { shape { dim: 4 dim: 2 dim: 6 dim: 6 } shape { dim: 4 dim: 5 }
                           data_filler { type: "gaussian" } data_filler { type: "gaussian" } }""")
    + _convolution(1, "x", "a")
    + layer_text("relu1", "ReLU", "a", "a")
    + _convolution(2, "a", "b")
    + layer_text("sum", "Eltwise", "a b", "c")
    + layer_text("relu2", "ReLU", "c", "c")
    + layer_text("ip", "InnerProduct", "c", "y", _PRODUCT)
    + layer_text("relu3", "ReLU", "y", "y")
    + layer_text("drop", "Dropout", "y", "y")
    + layer_text("loss", "EuclideanLoss", "y t", "loss")
)  # fmt: skip


COUNT = NET.count("layer {") + 1  # with the Split of "a"


def build():
    random.set_random_seed(5)
    return net_from_text(NET)


def diffs(net):
    """The diffs of all parameters."""
    return [blob.read_diff().copy() for layer in net.layers for blob in layer.blobs]


def run(passed=None, prepare=lambda net: None):
    """Run two iterations of a new net; return its diffs.

    passed: called as passed(net, i) in the second iteration.
    """
    net = build()
    prepare(net)
    for iteration in range(2):
        net.clear_param_diffs()
        net.run_forward()
        net.run_backward((lambda i: passed(net, i)) if passed and iteration else None)
    return diffs(net)


def check_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def _nothing(net):
    pass


def _callback(net):
    net.after_backward(lambda i: None)


def _debug_info(net):
    net.debug_info = True


def _sharing(net):
    net.share_memory(Sharing.FORGET)


@pytest.mark.parametrize("prepare", [_nothing, _callback, _debug_info, _sharing])
def test_it_descends_to_the_first_layer(engine, prepare):
    layers = []
    run(lambda net, i: layers.append(i), prepare)
    assert layers == sorted(set(layers), reverse=True) and layers[-1] == 0
    if prepare in (_callback, _debug_info):  # these run layers one by one
        assert layers == list(range(COUNT))[::-1]


@pytest.mark.parametrize("prepare", [_nothing, _sharing])
def test_gradients_are_complete_when_it_is_called(engine, prepare):
    """Reading them does not change the pass."""
    of_layer = np.repeat(range(COUNT), [len(layer.blobs) for layer in build().layers])
    found = []
    whole = run(None, prepare)
    after = run(lambda net, i: found.append((i, diffs(net))), prepare)
    check_equal(after, whole)
    for layer, now in found:
        complete = np.flatnonzero(of_layer >= layer)
        check_equal([now[i] for i in complete], [whole[i] for i in complete])


def test_it_is_called_before_the_pass_ends():
    """Otherwise nothing would be computed meanwhile."""
    found = {}
    whole = run(lambda net, i: found.update({i: diffs(net)}))
    now = found[build().layer_names.index("ip")]
    assert whole[0].any() and not now[0].any()


def test_it_is_not_called_in_later_passes():
    net, layers = build(), []
    net.run_forward()
    net.run_backward(layers.append)
    count = len(layers)
    net.run_backward()
    assert count and len(layers) == count
