"""Deconvolution: the transpose of Convolution."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"


def deconv(text):
    return f"type: 'Deconvolution' convolution_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(deconv("num_output: 4 kernel_size: 3 stride: 2 pad: 1"), [(2, 3, 3, 2)]),
        Case(deconv("num_output: 2 kernel_size: 2 bias_term: false"), [(2, 2, 3, 4)] * 2, num_top=2),
        Case(
            deconv("num_output: 4 group: 2 kernel_h: 1 kernel_w: 3 dilation: 1 dilation: 2 stride_h: 2 stride_w: 1"),
            [(2, 6, 3, 3)],
        ),
        Case(deconv("num_output: 3 group: 3 kernel_size: 4 stride: 2 pad: 1"), [(2, 3, 2, 3)]),
        Case(deconv("num_output: 3 kernel_size: 3 stride: 2 pad: 1"), [(2, 2, 4)]),
        Case(deconv("num_output: 2 kernel_size: 2 stride: 2"), [(1, 2, 2, 1, 2)]),
    ]


def run(text, x, weights=None):
    layer, bottom, top = build_layer(text, x)
    if weights is not None:
        layer.blobs[0].data[...] = weights
    layer.forward(bottom, top)
    return top[0].data


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_it_is_the_transpose_of_convolution(stride):
    rng = np.random.default_rng(0)
    text = f"num_output: %d kernel_size: 3 stride: {stride} pad: 1 dilation: 2 bias_term: false"
    w = rng.standard_normal((4, 5, 3, 3))
    small = rng.standard_normal((2, 4, 3, 2))
    large = run(f"type: 'Deconvolution' convolution_param {{ {text % 5} }}", small, w)
    assert large.shape == (2, 5, 2 * stride + 3, stride + 3)
    other = rng.standard_normal(large.shape)
    back = run(f"type: 'Convolution' convolution_param {{ {text % 4} }}", other, w)
    assert_close((large * other).sum(), (small * back).sum(), rtol=1e-9)


def test_bilinear_weights_interpolate():
    text = """type: 'Deconvolution' convolution_param { num_output: 2 group: 2 kernel_size: 4 stride: 2 pad: 1
              bias_term: false weight_filler { type: 'bilinear' } }"""
    ramp = np.broadcast_to(np.arange(6.0), (1, 2, 6, 6))
    larger = run(text, ramp)
    assert larger.shape == (1, 2, 12, 12)
    assert_close(larger[0, 1, 5, 1:-1], np.arange(10) / 2 + 0.25, rtol=1e-6)


def test_padding_that_leaves_nothing():
    with pytest.raises(LayerError, match="^Deconvolution layer 'layer': pad .* leaves nothing of the output"):
        run("type: 'Deconvolution' convolution_param { num_output: 1 kernel_size: 2 pad: 2 }", np.zeros((1, 1, 2, 2)))
