"""Memory that layers use within one call: the layers of a net have it in common."""

import numpy as np
import pytest

import minicaffe
from minicaffe import onednn
from minicaffe.core.scratch import Scratch
from minicaffe.proto import caffe_pb2, parse_text

NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 16 dim: 6 dim: 6 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "n" type: "LRN" bottom: "a" top: "n" lrn_param { local_size: 3 } }
layer { name: "b" type: "Convolution" bottom: "n" top: "b"
        convolution_param { num_output: 16 kernel_size: 5 pad: 2 weight_filler { type: "xavier" } } }
layer { name: "m" type: "LRN" bottom: "b" top: "m" lrn_param { local_size: 7 } }
layer { name: "loss" type: "Reduction" bottom: "m" top: "loss" loss_weight: 1 }
"""


def test_one_buffer_for_each_use():
    scratch, float32 = Scratch(), np.dtype(np.float32)
    small, other = scratch.array("a", (2, 3), float32), scratch.array("b", (4,), float32)
    small[...], other[...] = 1, 2
    assert small.shape == (2, 3) and (small == 1).all() and not np.shares_memory(small, other)
    large = scratch.array("a", (5, 5), float32)
    assert np.shares_memory(large, scratch.array("a", (2,), np.dtype(np.float64)))
    assert large.ctypes.data % 64 == 0 and scratch.nbytes == 100 + 16


def net(engine, phase):
    minicaffe.set_engine(engine)
    try:
        minicaffe.set_random_seed(1)
        return minicaffe.Net(parse_text(NET, caffe_pb2.NetParameter(force_backward=True)), phase=phase)
    finally:
        minicaffe.set_engine("DEFAULT")


@pytest.mark.parametrize("engine", ["CAFFE", *(["ONEDNN"] if onednn.available() else [])])
def test_layers_of_a_net_share_it(engine):
    """The numbers are those of layers that have a Scratch each, although every buffer begins with NaN."""
    shared, apart = net(engine, minicaffe.TRAIN), net(engine, minicaffe.TRAIN)
    assert len({id(layer.scratch) for layer in shared.layers}) == 1
    for layer in apart.layers:
        layer.scratch = Scratch()
        if hasattr(layer, "correlation"):
            layer.correlation.scratch = layer.scratch
    x = np.random.default_rng(0).standard_normal((2, 16, 6, 6))
    for _ in range(2):
        for each in (shared, apart):
            each.blobs["data"].data = x
            each.clear_param_diffs()
            each.run_forward()
            _poison(each)
            each.run_backward()
            _poison(each)
    assert 0 < shared.layers[0].scratch.nbytes < sum(layer.scratch.nbytes for layer in apart.layers)
    for name, blob in apart.blobs.items():
        np.testing.assert_array_equal(shared.blobs[name].data, blob.data, err_msg=name)
        np.testing.assert_array_equal(shared.blobs[name].diff, blob.diff, err_msg=name)
    for a, b in zip(shared.learnable_params, apart.learnable_params):
        np.testing.assert_array_equal(a.diff, b.diff)


def _poison(net):
    for layer in net.layers:
        for buffer in layer.scratch._buffers.values():
            buffer.view(np.float32)[:] = np.nan
