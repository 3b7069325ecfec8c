"""Im2col."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, top_of


def im2col(text):
    return f"type: 'Im2col' convolution_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(im2col("kernel_size: 3 stride: 2 pad: 1"), [(2, 3, 5, 4)]),
        Case(im2col("kernel_h: 1 kernel_w: 2 dilation: 1 dilation: 3"), [(2, 2, 3, 5)]),
        Case(im2col("kernel_size: 2 stride: 3 pad: 2"), [(1, 2, 4)]),
        Case(im2col("kernel_size: 2 axis: 2"), [(2, 2, 3, 2, 3)]),
        Case(im2col("kernel_size: 2"), [(1, 2, 3, 2, 3)]),
    ]


def test_columns():
    x = np.arange(2 * 9.0).reshape(1, 2, 3, 3)
    y = top_of(im2col("kernel_size: 2 pad: 1 stride: 2"), x)
    assert y.shape == (1, 8, 2, 2)
    np.testing.assert_array_equal(
        y[0, :4].transpose(1, 2, 0).reshape(-1, 4), [[0, 0, 0, 0], [0, 0, 1, 2], [0, 3, 0, 6], [4, 5, 7, 8]]
    )
    np.testing.assert_array_equal(y[0, 4:, 1, 1], [13, 14, 16, 17])


def test_a_bottom_without_places_is_refused():
    with pytest.raises(
        LayerError, match=r"^Im2col layer 'layer': bottom 0 must have spatial axes behind axis 1, got \(2, 3\)"
    ):
        top_of(im2col("kernel_size: 1"), np.zeros((2, 3)))


def test_a_picture_that_is_all_padding():
    np.testing.assert_array_equal(top_of(im2col("kernel_size: 2 pad: 1"), np.zeros((1, 2, 0))), np.zeros((1, 4, 1)))
