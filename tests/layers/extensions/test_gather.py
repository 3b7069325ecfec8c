"""Gather, with one machine."""

import numpy as np

from minicaffe import Net
from minicaffe.proto import TRAIN, caffe_pb2, parse_text
from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'Gather'", [(2, 3), (4,)], num_top=2), Case("type: 'Gather'", [(2, 3, 4, 5)])]


def test_the_tops_are_the_bottoms(engine):
    x = [np.arange(6.0).reshape(2, 3), np.arange(4.0)]
    tops = run_layer("type: 'Gather'", *x, num_top=2)[2]
    assert all(np.array_equal(top.data, values) for top, values in zip(tops, x, strict=True))


NET = """
layer { name: "x" type: "Input" top: "x" top: "label" input_param { shape { dim: 3 dim: 4 } shape { dim: 3 } } }
layer { name: "below" type: "InnerProduct" bottom: "x" top: "below" inner_product_param {
    num_output: 5 weight_filler { type: "gaussian" } } }
%s
layer { name: "above" type: "InnerProduct" bottom: "%s" top: "above" inner_product_param {
    num_output: 2 weight_filler { type: "gaussian" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "above" bottom: "%s" top: "loss" }
"""
GATHER = 'layer { name: "gather" type: "Gather" bottom: "below" bottom: "label" top: "all" top: "labels" }'


def test_labels_beside_what_learns_need_no_gradient():
    """As in the nets of TSN's fork, where Gather stands before the layers that one machine computes for all."""
    nets = [
        Net(parse_text(NET % names, caffe_pb2.NetParameter()), phase=TRAIN)
        for names in ((GATHER, "all", "labels"), ("", "below", "label"))
    ]
    for net in nets:
        net.blobs["x"].data = np.random.default_rng(0).normal(size=(3, 4))
        net.blobs["label"].data = [0, 1, 1]
        for name, blobs in nets[0].params.items():
            net.params[name][0].data = blobs[0].data
        net.forward()
        net.backward()
    for name in ("below", "above"):
        ours, plain = (net.params[name][0].diff for net in nets)
        np.testing.assert_array_equal(ours, plain)
        assert ours.any()
