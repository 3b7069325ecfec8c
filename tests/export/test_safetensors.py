"""Weights as a .safetensors file, read by the package that defines the format."""

import numpy as np
import pytest

from helpers.nets import layer_text, net_from_text
from minicaffe import TEST
from minicaffe.export.safetensors import to_safetensors

safetensors = pytest.importorskip("safetensors.numpy", reason="needs the package safetensors")

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } } }\n'


def test_all_parameters_by_name():
    convolution = 'convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } }'
    net = net_from_text(
        DATA
        + layer_text("a/b", "Convolution", "data", "a", convolution)
        + layer_text("bn", "BatchNorm", "a", "a")
        + layer_text("ip", "InnerProduct", "a", "ip", "inner_product_param { num_output: 2 bias_term: false }"),
        TEST,
    )
    found = safetensors.load(to_safetensors(net))
    assert sorted(found) == ["a/b.0", "a/b.1", "bn.0", "bn.1", "bn.2", "ip.0"]
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            np.testing.assert_array_equal(found[f"{name}.{i}"], blob.data)


def test_a_shared_parameter_is_written_once():
    shared = 'param { name: "w" } inner_product_param { num_output: 75 bias_term: false }'
    net = net_from_text(
        DATA + layer_text("a", "InnerProduct", "data", "a", shared) + layer_text("b", "InnerProduct", "a", "b", shared),
        TEST,
    )
    assert list(safetensors.load(to_safetensors(net))) == ["a.0"]
