"""Convolution, with the products behind it."""

import numpy as np
import pytest

from helpers.references import convolution
from minicaffe.errors import LayerError
from minicaffe.layers.shared import correlation as correlation_module
from minicaffe.layers.shared.correlation import Correlation
from minicaffe.layers.shared.depthwise import DepthwiseCorrelation
from minicaffe.layers.shared.pointwise import PointwiseCorrelation
from minicaffe.layers.shared.window import Window
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"


def conv(text):
    return f"type: 'Convolution' convolution_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(conv("num_output: 4 kernel_size: 3 stride: 2 pad: 1"), [(2, 3, 6, 5)]),
        Case(conv("num_output: 2 kernel_size: 2 bias_term: false"), [(2, 2, 3, 4)] * 2, num_top=2),
        Case(
            conv("num_output: 6 group: 2 kernel_h: 1 kernel_w: 3 dilation: 1 dilation: 2 pad_h: 0 pad_w: 2"),
            [(2, 4, 3, 6)],
        ),
        Case(conv("num_output: 3 group: 3 kernel_size: 3 pad: 1"), [(2, 3, 4, 4)]),
        Case(conv("num_output: 3 group: 3 kernel_size: 3 stride: 2"), [(2, 3, 5, 6)]),
        Case(conv("num_output: 3 kernel_size: 3 stride: 2 pad: 1"), [(2, 2, 7)]),
        Case(conv("num_output: 2 kernel_size: 2 stride: 1 stride: 2 stride: 1 pad: 1"), [(1, 2, 3, 4, 3)]),
        Case(conv("num_output: 3 kernel_size: 2 pad: 3 stride: 3"), [(2, 2, 3, 2)]),
        Case(conv("num_output: 3 kernel_size: 1 axis: 2"), [(2, 3, 2, 4, 3)]),
        Case(conv("num_output: 3"), [(4, 5)]),
    ]


WINDOWS = [
    (Window((3, 2), (1, 1), (1, 0), (1, 1)), (5, 4)),
    (Window((3, 2), (2, 3), (2, 1), (1, 2)), (5, 6)),
    (Window((2,), (2,), (3,), (2,)), (5,)),
    (Window((2, 1, 3), (1, 2, 1), (0, 1, 1), (1, 1, 2)), (3, 4, 6)),
]


@pytest.mark.parametrize(("window", "size"), WINDOWS)
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("shallow", [0, 64])
def test_products_are_the_definition(window, size, group, shallow, monkeypatch):
    monkeypatch.setattr(correlation_module, "_SHALLOW", shallow)  # 0: a product for each offset of the kernel
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((9, 4, *size)), rng.standard_normal((6, 4 // group, *window.kernel))
    dy = rng.standard_normal((9, 6, *window.output(size)))
    y, dx, dw = np.empty_like(dy), np.empty_like(x), np.ones_like(w)
    correlation = Correlation(window, group, np.dtype(float))
    correlation.forward(x, w, y)
    assert_close(y, convolution(x, w, window, group), rtol=1e-9)
    correlation.data_gradient(dy, w, dx)
    correlation.weight_gradient(x, dy, dw)
    both = np.empty_like(x), np.ones_like(w)
    correlation.gradients(x, dy, w, *both)
    assert_close(both[0], dx, rtol=1e-9)
    assert_close(both[1], dw, rtol=1e-9)
    # y is linear in x and in w, so <dy, y> = <dx, x> = <dw, w>, whatever x and w are
    for other in (x, rng.standard_normal(x.shape)):
        assert_close((dx * other).sum(), (dy * convolution(other, w, window, group)).sum(), rtol=1e-9)
    for other in (w, rng.standard_normal(w.shape)):
        assert_close(((dw - 1) * other).sum(), (dy * convolution(x, other, window, group)).sum(), rtol=1e-9)


@pytest.mark.parametrize(("window", "size"), WINDOWS)
def test_depthwise_is_the_grouped_product(window, size):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 4, *size)), rng.standard_normal((4, 1, *window.kernel))
    dy = rng.standard_normal((3, 4, *window.output(size)))
    results = []
    for kind in (Correlation, DepthwiseCorrelation):
        y, dx, dw = np.empty_like(dy), np.empty_like(x), np.zeros_like(w)
        correlation = kind(window, 4, np.dtype(float))
        correlation.forward(x, w, y)
        correlation.data_gradient(dy, w, dx)
        correlation.weight_gradient(x, dy, dw)
        results.append((y, dx, dw))
    for plain, quick in zip(*results, strict=True):
        assert_close(quick, plain, rtol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("group", [1, 2])
def test_pointwise_is_the_general_product(stride, group):
    rng, window = np.random.default_rng(0), Window((1, 1), (stride, 1), (0, 0), (1, 1))
    x, w = rng.standard_normal((3, 4, 5, 6)), rng.standard_normal((6, 4 // group, 1, 1))
    dy = rng.standard_normal((3, 6, *window.output((5, 6))))
    assert window.is_pointwise
    results = []
    for kind in (Correlation, PointwiseCorrelation):
        y, dx, dw = np.empty_like(dy), np.empty_like(x), np.zeros_like(w)
        correlation = kind(window, group, np.dtype(float))
        correlation.forward(x, w, y)
        correlation.gradients(x, dy, w, dx, dw)
        results.append((y, dx, dw))
    for plain, quick in zip(*results, strict=True):
        assert_close(quick, plain, rtol=1e-9)


def test_many_small_parts_are_one_batch(monkeypatch):
    rng = np.random.default_rng(0)
    window = Window((3, 3), (1, 1), (1, 1), (1, 1))
    x, w = rng.standard_normal((7, 4, 5, 5)), rng.standard_normal((6, 4, 3, 3))
    whole, parts = np.empty((2, 7, 6, 5, 5))
    Correlation(window, 1, x.dtype).forward(x, w, whole)
    monkeypatch.setattr(correlation_module, "_COLUMNS", 1000)
    Correlation(window, 1, x.dtype).forward(x, w, parts)
    assert_close(parts, whole, rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("num_output: 4 kernel_size: 3 group: 3", [(2, 4, 5, 5)], "group 3, 4 channels and num_output 4"),
        ("num_output: 4 kernel_size: 7", [(2, 4, 5, 5)], r"window of \(7, 7\) places"),
        ("num_output: 4 kernel_size: 3", [(2, 4, 5, 5), (2, 4, 5, 6)], r"bottom 1 has \(2, 4, 5, 6\)"),
        ("kernel_size: 3", [(2, 4, 5, 5)], "num_output must be at least 1"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    text = f"name: 'c' type: 'Convolution' convolution_param {{ {text} }}"
    with pytest.raises(LayerError, match=f"^Convolution layer 'c': .*{words}"):
        build_layer(text, *map(np.zeros, shapes), num_top=len(shapes))


def test_another_number_of_channels_is_refused():
    layer, bottom, top = build_layer(f"name: 'c' {conv('num_output: 2 kernel_size: 1')}", np.zeros((1, 3, 4, 4)))
    bottom[0].reshape(1, 5, 4, 4)
    with pytest.raises(
        LayerError, match=r"'c': bottom 0 must have 4 axes \(N, C, H, W\) with 3 channels .* \(1, 5, 4, 4\)"
    ):
        layer.forward(bottom, top)
