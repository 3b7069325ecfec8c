"""NVIDIA's BatchNorm with scale and shift: prototxt and weights of that fork, from file to result."""

import numpy as np
import pytest

from minicaffe.core.net import Net
from minicaffe.proto import caffe_pb2, write_binary

PROTOTXT = """
    default_forward_type: FLOAT16
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 4, 5] } } }
    layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param { scale_bias: true eps: 1e-4 } }
"""


@pytest.mark.parametrize("raw", [False, True])
def test_forward_with_that_forks_weights(tmp_path, raw):
    rng = np.random.default_rng(5)
    mean, variance, scale, shift = rng.standard_normal((4, 3)).astype(np.float32)
    variance = np.abs(variance) + np.float32(0.1)
    weights = caffe_pb2.NetParameter()
    layer = weights.layer.add(name="bn", type="BatchNorm", bottom=["data"], top=["bn"])
    for values in (mean, variance, np.ones(1, np.float32), scale, shift):
        blob = layer.blobs.add()
        blob.shape.dim.extend([1, len(values), 1, 1] if len(values) > 1 else [1])
        if raw:
            blob.raw_data, blob.raw_data_type = values.tobytes(), caffe_pb2.FLOAT
        else:
            blob.data.extend(values)
    write_binary(weights, tmp_path / "nv.caffemodel")
    (tmp_path / "net.prototxt").write_text(PROTOTXT)

    net = Net(str(tmp_path / "net.prototxt"), caffe_pb2.TEST, weights=str(tmp_path / "nv.caffemodel"))
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    y = net.forward(data=x)["bn"]

    def per_channel(values):
        return values.reshape(1, 3, 1, 1)

    expected = (x - per_channel(mean)) / np.sqrt(per_channel(variance) + 1e-4) * per_channel(scale) + per_channel(shift)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
