"""ConvolutionDepthwise and DepthwiseConvolution."""

import numpy as np
import pytest

from minicaffe.testing import Case, LayerProperties, assert_close, build_layer

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"


class TestProperties(LayerProperties):
    cases = [
        Case(f"type: '{kind}' convolution_param {{ {FILLERS} {text} }}", [(2, 3, 5, 4)])
        for kind, text in (
            ("ConvolutionDepthwise", "num_output: 3 kernel_size: 3 pad: 1"),
            ("ConvolutionDepthwise", "num_output: 6 kernel_size: 3 stride: 2"),
            ("DepthwiseConvolution", "num_output: 3 group: 3 kernel_size: 2 bias_term: false"),
        )
    ]


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_it_is_a_grouped_convolution(kind):
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 6))
    results = []
    for layer_kind, group in ((kind, ""), ("Convolution", "group: 4")):
        text = f"type: '{layer_kind}' convolution_param {{ num_output: 4 kernel_size: 3 {group} }}"
        layer, bottom, top = build_layer(text, x)
        assert layer.blobs[0].shape == (4, 1, 3, 3)
        layer.blobs[0].data[...] = np.random.default_rng(1).standard_normal((4, 1, 3, 3))
        layer.forward(bottom, top)
        results.append(top[0].data.copy())
    assert_close(*results, rtol=1e-9)
