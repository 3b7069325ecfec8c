"""A backward pass that is cut into parts gives the bits of a whole one, wherever it is cut."""

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
    """The diffs of the parameters, then of the other blobs."""
    blobs = [blob for layer in net.layers for blob in layer.blobs]
    return [blob.read_diff().copy() for blob in [*blobs, *net.blobs.values()]]


def run(ends=None, prepare=lambda net: None):
    """Run two iterations of a new net; return its diffs, and those in each call of `done` in the second iteration."""
    net = build()
    prepare(net)
    for _ in range(2):
        during = []
        net.clear_param_diffs()
        net.run_forward()
        if ends is None:
            net.run_backward()
        else:
            net.run_backward_in_parts(ends, lambda calls=during: calls.append(diffs(net)))
    return diffs(net), during


def check_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_cut_gives_the_same_bits(engine):
    whole, _ = run()
    for end in range(COUNT):
        found, during = run([end])
        check_equal(found, whole)
        assert len(during) == 1


def test_a_cut_before_each_layer_gives_the_same_bits(engine):
    found, during = run(range(COUNT)[::-1])
    check_equal(found, run()[0])
    assert len(during) == COUNT


def test_diffs_are_complete_when_done_is_called(engine):
    net, (whole, _) = build(), run()
    of_layer = np.repeat(range(COUNT), [len(layer.blobs) for layer in net.layers])
    _, during = run(range(COUNT)[::-1])
    for end, now in zip(range(COUNT)[::-1], during):
        complete = np.flatnonzero(of_layer >= end)
        check_equal([now[i] for i in complete], [whole[i] for i in complete])


def test_done_is_called_before_the_pass_ends():
    """Otherwise nothing would be computed meanwhile."""
    (whole, *_), ((now, *_),) = run([build().layer_names.index("ip")])
    assert whole[0].any() and not now[0].any()


def _callback(net):
    net.after_backward(lambda i: None)


def _debug_info(net):
    net.debug_info = True


@pytest.mark.parametrize("prepare", [_callback, _debug_info])
def test_a_net_that_is_observed_runs_in_one_part(prepare):
    found, during = run([9, 4], prepare)
    whole, _ = run(None, prepare)
    for each in (found, *during):
        check_equal(each, whole)
    assert len(during) == 2


def test_a_net_that_shares_the_memory_of_diffs_runs_in_one_part():
    net, whole = build(), build()
    for each in (net, whole):
        each.share_memory(Sharing.FORGET)
        each.run_forward()
    whole.run_backward()
    found = []
    net.run_backward_in_parts([9, 4], lambda: found.append(net.params["conv1"][0].read_diff().copy()))
    check_equal(found, [whole.params["conv1"][0].read_diff()] * 2)
    assert net.plan.active
