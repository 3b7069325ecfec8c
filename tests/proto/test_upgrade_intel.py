"""What Intel's Caffe writes into one layer becomes several: scale and shift of BatchNorm, and a ReLU."""

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.proto import caffe_pb2, parse_text, upgrade_net

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [4, 2, 3, 3] } } }'


def upgraded(text):
    return upgrade_net(parse_text(text, caffe_pb2.NetParameter()))


def batch_norm(fields, behind=""):
    return f'layer {{ name: "b" type: "BatchNorm" bottom: "x" top: "b" batch_norm_param {{ {fields} }} }} {behind}'


@pytest.mark.parametrize("fields", ["filler { value: 3 }", "use_weight_bias: true", "filler { } use_weight_bias: true"])
def test_batch_norm_with_a_scale_of_its_own(fields):
    norm, scale = upgraded(batch_norm(f"{fields} bias_filler {{ value: 5 }}")).layer
    assert (norm.type, scale.type, scale.name, scale.scale_param.bias_term) == ("BatchNorm", "Scale", "b_scale", True)
    assert not norm.batch_norm_param.HasField("filler") and not norm.batch_norm_param.HasField("use_weight_bias")
    assert scale.scale_param.bias_filler.value == 5
    assert scale.scale_param.filler.value == (3 if "value" in fields else 0)


@pytest.mark.parametrize("fields", ["filler { value: 3 } bias_filler { }", "use_weight_bias: true"])
def test_in_front_of_a_scale_the_fields_have_no_effect(fields):
    scale = 'layer { name: "s" type: "Scale" bottom: "b" top: "b" scale_param { bias_term: true } }'
    assert upgraded(batch_norm(fields, scale)) == upgraded(batch_norm("", scale))
    assert len(upgraded(batch_norm("use_weight_bias: false filler { }")).layer) == 1
    between = 'layer { name: "r" type: "ReLU" bottom: "b" top: "b" }'
    assert len(upgraded(batch_norm(fields, between + scale)).layer) == 4


@pytest.mark.parametrize(
    ("layer", "slope"),
    [
        ('type: "Convolution" convolution_param { num_output: 3 kernel_size: 1 relu: true negative_slope: 0.5 }', 0.5),
        ('type: "InnerProduct" inner_product_param { num_output: 3 relu: true }', 0),
        ('type: "BatchNorm" batch_norm_param { relu: true }', 0),
        ('type: "BatchNorm" batch_norm_param { relu: true filler { value: 2 } }', 0),
    ],
)
def test_a_relu_of_its_own(layer, slope):
    text = f'{INPUT} layer {{ name: "l" bottom: "x" top: "y" include {{ phase: TRAIN }} {layer} }}'
    relu = upgraded(text).layer[-1]
    assert (relu.name, relu.type, list(relu.bottom), list(relu.top)) == ("l_relu", "ReLU", ["y"], ["y"])
    assert relu.relu_param.negative_slope == slope and relu.include[0].phase == caffe_pb2.TRAIN
    values = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    nets = [net_from_text(each, 0) for each in (text, text.replace("relu: true", ""))]
    for net in nets:
        net.blobs["x"].data = values
        for name, blobs in net.params.items():
            for i, blob in enumerate(blobs):
                blob.data = np.random.default_rng(i).standard_normal(blob.shape) if name == "l" else blob.data
        net.forward()
    with_relu, without = (net.blobs["y"].data for net in nets)
    assert np.array_equal(with_relu, np.where(without > 0, without, slope * without).astype(np.float32))


def test_a_relu_comes_behind_the_scale_that_follows():
    scale = 'layer { name: "s" type: "Scale" bottom: "b" top: "s" }'
    assert [each.name for each in upgraded(batch_norm("relu: true", scale)).layer] == ["b", "s", "b_relu"]
    assert list(upgraded(batch_norm("relu: true", scale)).layer[2].bottom) == ["s"]


def test_a_concat_of_permuted_maps():
    """SSD's locations in Intel's quantized nets: Permute and Flatten are fields of the Concat."""
    text = """layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 4 dim: 3 dim: 5 }
                shape { dim: 2 dim: 6 dim: 1 dim: 2 } } }
              layer { name: "loc" type: "Concat" bottom: "a" bottom: "b" top: "loc"
                concat_param { axis: %d per_fla_fuse: true } }"""
    net = net_from_text(text % 1)
    values = [np.random.default_rng(i).standard_normal(net.blobs[name].shape) for i, name in enumerate("ab")]
    for name, own in zip("ab", values):
        net.blobs[name].data[...] = own
    flat = [own.transpose(0, 2, 3, 1).reshape(2, -1) for own in values]
    np.testing.assert_allclose(net.forward()["loc"], np.concatenate(flat, 1), rtol=1e-6)
    plain = upgrade_net(parse_text(text % 0, caffe_pb2.NetParameter()))
    assert [layer.type for layer in plain.layer] == ["Input", "Concat"]
