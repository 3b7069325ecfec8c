"""NdConvolution: a Convolution whose window is given by shapes."""

import numpy as np
import pytest

from helpers import references
from minicaffe.errors import LayerError
from minicaffe.layers.shared.window import Window
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, top_of

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"
SHAPES = (
    "kernel_shape { dim: 3 dim: 2 dim: 2 } stride_shape { dim: 1 dim: 2 dim: 1 } pad_shape { dim: 1 dim: 0 dim: 1 }"
)


def convolution(text):
    return f"type: 'NdConvolution' convolution_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(convolution(f"num_output: 4 group: 2 {SHAPES}"), [(1, 2, 3, 4, 3)]),
        Case(convolution("num_output: 2 kernel_shape { dim: 2 dim: 3 }"), [(2, 2, 4, 4)]),
    ]


def test_values(engine):
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 5, 6))
    layer, bottom, top = build_layer(convolution(f"num_output: 6 group: 2 bias_term: false {SHAPES}"), x)
    assert layer.blobs[0].shape == (6, 2, 3, 2, 2)
    layer.forward(bottom, top)
    window = Window((3, 2, 2), (1, 2, 1), (1, 0, 1), (1, 1, 1))
    assert_close(top[0].data, references.convolution(x, layer.blobs[0].data, window, 2), rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernel_shape { dim: 3 dim: 3 }", "kernel_shape must be given once or once for each of the 3 spatial axes"),
        ("kernel_size: 3 kernel_shape { dim: 3 }", "give either kernel_shape or kernel_size, not both"),
        ("kernel_shape { dim: 0 }", "kernel must be at least 1 on every spatial axis"),
        ("", "kernel_size, or kernel_h and kernel_w, must be given"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^NdConvolution layer 'layer': {words}"):
        top_of(convolution(f"num_output: 1 {text}"), np.zeros((1, 1, 4, 4, 4)))
