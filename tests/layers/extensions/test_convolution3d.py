"""Convolution3D and Deconvolution3D: from either message the layers of master with the same window."""

import numpy as np
import pytest

from minicaffe import Net
from minicaffe.core.weights import load
from minicaffe.errors import LayerError
from minicaffe.proto import TEST, caffe_pb2, parse_text, upgrade_net, write_binary
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, top_of

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"
WINDOW = "kernel_depth: 3 kernel_size: 2 stride: 2 temporal_pad: 1"
SAME = """kernel_size: 3 kernel_size: 2 kernel_size: 2 stride: 1 stride: 2 stride: 2 pad: 1 pad: 0 pad: 0"""
PARAMS = ("convolution3d_param", "convolution_param")  # of C3D v1.1 and v1.0


class TestProperties(LayerProperties):
    cases = [
        Case(f"type: '{kind}3D' {param} {{ num_output: 2 {FILLERS} {text} }}", [(1, 2, 3, 4, 3)])
        for kind, param, text in (
            ("Convolution", "convolution3d_param", WINDOW),
            ("Convolution", "convolution_param", "kernel_depth: 2 kernel_size: 1 temporal_stride: 2 bias_term: false"),
            ("Deconvolution", "convolution3d_param", f"group: 2 {WINDOW}"),
            ("Deconvolution", "convolution_param", "kernel_depth: 2 kernel_size: 3 pad: 1 filter_group: 2"),
        )
    ]


@pytest.mark.parametrize("param", PARAMS)
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_it_is_the_layer_of_master(kind, param):
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 5, 6))
    results = []
    for text in (f"'{kind}3D' {param} {{ {WINDOW}", f"'{kind}' convolution_param {{ {SAME}"):
        layer, bottom, top = build_layer(f"type: {text} num_output: 6 group: 2 }}", x)
        assert layer.blobs[0].shape == ((6, 2, 3, 2, 2) if kind == "Convolution" else (4, 3, 3, 2, 2))
        layer.blobs[0].data = np.random.default_rng(1).standard_normal(layer.blobs[0].shape)
        layer.blobs[1].data = np.arange(6)
        layer.forward(bottom, top)
        results.append(top[0].data.copy())
    assert_close(*results, rtol=1e-9)


@pytest.mark.parametrize("param", PARAMS)
def test_the_kernel_along_time_must_be_given(param):
    with pytest.raises(LayerError, match="^Convolution3D layer 'layer': kernel_depth must be given"):
        top_of(f"type: 'Convolution3D' {param} {{ num_output: 1 kernel_size: 3 }}", np.zeros((1, 1, 3, 3, 3)))
    text = f"type: 'Convolution3D' {param} {{ num_output: 1 kernel_size: 3 kernel_depth: 3 }}"
    with pytest.raises(LayerError, match="kernel_depth is for three spatial axes, but there are 2"):
        top_of(text, np.zeros((1, 1, 3, 3)))


NET = """
input: "data" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 dim: 4 }
layers { name: "conv" type: CONVOLUTION3D bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 3 kernel_depth: 3 kernel_size: 3 pad: 1 temporal_pad: 1 } }
layers { name: "pool" type: POOLING3D bottom: "conv" top: "pool"
  pooling_param { kernel_depth: 1 kernel_size: 2 stride: 2 } }
layers { name: "up" type: DECONVOLUTION3D bottom: "pool" top: "up"
  convolution_param { num_output: 2 kernel_depth: 1 kernel_size: 2 stride: 2 } }
"""


def test_c3d_in_the_older_format_and_its_weights(tmp_path):
    net = upgrade_net(parse_text(NET, caffe_pb2.NetParameter()))
    assert [layer.type for layer in net.layer[1:]] == ["Convolution3D", "Pooling3D", "Deconvolution3D"]
    built = Net(net, TEST)
    shapes = {name: built.blobs[name].shape for name in ("conv", "pool", "up")}
    assert shapes == {"conv": (1, 3, 4, 4, 4), "pool": (1, 3, 4, 2, 2), "up": (1, 2, 4, 4, 4)}
    stored = caffe_pb2.NetParameter()
    layer = stored.layer.add(name="conv", type="Convolution3D")
    for shape in ((3, 2, 3, 3, 3), (1, 1, 1, 1, 3)):  # C3D's biases have five axes
        blob = layer.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend(np.arange(np.prod(shape)))
    write_binary(stored, tmp_path / "c3d.caffemodel")
    load([built], [str(tmp_path / "c3d.caffemodel")])
    np.testing.assert_array_equal(built.params["conv"][1].data, [0, 1, 2])
