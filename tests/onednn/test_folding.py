"""Convolutions that oneDNN folds in TEST, until the first backward pass, which still gets what it reads."""

import numpy as np
import pytest

from helpers.engines import needs_onednn, on
from helpers.nets import net_from_text
from minicaffe import TEST
from minicaffe.errors import LayerError
from minicaffe.testing import ONEDNN

pytestmark = [needs_onednn, on(ONEDNN)]

NET = """
force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "a"
        convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "a" top: "a" }
layer { name: "scale" type: "Scale" bottom: "a" top: "a" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
"""


@pytest.fixture
def net(engine):
    net = net_from_text(NET, TEST)
    rng = np.random.default_rng(1)
    for blob in (net.blobs["x"], *(blob for blobs in net.params.values() for blob in blobs)):
        blob.data = rng.random(blob.shape) + 0.5
    return net


def found(net):
    return [(group.start, group.end) for group in net.fused.values()]


def test_a_net_is_folded_until_it_runs_backward(net):
    net.run_forward()
    assert found(net) == [(1, 4)]
    net.run_backward()
    assert found(net) == [(2, 4)]


def test_a_factor_of_zero_needs_the_parameters_of_the_forward_pass(net):
    """The Scale's bottom cannot be computed from the top of such a channel: the convolution runs again."""
    net.params["scale"][0].data[3] = 0
    net.run_forward()
    net.params["conv"][0].data[...] *= 2
    with pytest.raises(LayerError, match="'conv': its parameters were written to since the forward pass: run forward"):
        net.run_backward()
