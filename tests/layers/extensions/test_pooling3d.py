"""Pooling3D: from any of its messages a Pooling over time, rows and columns."""

import numpy as np
import pytest

from helpers import references
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer, top_of


def pool(text, param="pooling3d_param"):
    return f"type: 'Pooling3D' {param} {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(pool("kernel_depth: 1 kernel_size: 2 stride: 2"), [(2, 2, 3, 4, 5)], distinct),
        Case(pool("kernel_depth: 2 kernel_size: 3 stride: 2 temporal_stride: 2"), [(1, 2, 5, 6, 6)], distinct),
        Case(pool("pool: AVE kernel_depth: 2 kernel_size: 3 stride: 2 pad: 1", "pooling_param"), [(1, 2, 3, 4, 5)]),
    ]


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("kernel_depth: 2 kernel_size: 3 stride: 2 temporal_stride: 2", "pooling3d_param"),
        ("kernel_depth: 2 kernel_size: 3 stride: 2 temporal_stride: 2", "pooling_param"),
        ("kernel_l: 2 stride_l: 2 pad_l: 0 kernel_size: 3 stride: 2 pad: 0", "pooling3d_param"),
    ],
)
def test_values(text, param, engine):
    x = np.random.default_rng(0).integers(0, 4, (2, 2, 5, 6, 8)).astype(float)
    window = (2, 3, 3), (2, 2, 2)
    maxima, mask = references.pooling(x, *window)
    layer, bottom, top = run_layer(pool(text, param), x)
    np.testing.assert_array_equal(top[0].data, maxima)
    dy = top[0].diff[...] = np.random.default_rng(1).standard_normal(maxima.shape)
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, references.scatter(dy, mask, x.shape), rtol=1e-9)
    means, _ = references.pooling(x, *window, average=True)
    assert_close(top_of(pool(f"pool: AVE {text}", param), x), means, rtol=1e-6)


def test_a_window_in_the_far_padding_is_not_left_out():
    text = "pool: AVE kernel_depth: 1 kernel_size: 2 stride: 2 pad: 1"
    x = np.ones((1, 1, 2, 4, 3))
    y = top_of(pool(text), x)
    assert y.shape == (1, 1, 2, 3, 3)
    assert_close(y[0, 0, 0], np.outer([1 / 2, 1, 1 / 2], [1 / 2, 1, 0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("kernel_size: 2", (1, 1, 3, 3, 3), "kernel_depth must be given"),
        ("kernel_depth: 2 kernel_size: 2", (1, 1, 3, 3), "kernel_depth is for three spatial axes, but there are 2"),
        ("kernel_depth: 2", (1, 1, 3, 3, 3), "kernel_size, or kernel_h and kernel_w, must be given"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^Pooling3D layer 'layer': {words}"):
        top_of(pool(text), np.zeros(shape))
