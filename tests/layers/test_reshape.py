"""Reshape."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def reshape(text=""):
    return f"type: 'Reshape' reshape_param {{ {text} }}"


def dims(*lengths):
    return "shape { " + " ".join(f"dim: {n}" for n in lengths) + " } "


class TestProperties(LayerProperties):
    cases = [Case(reshape(dims(0, -1)), [(2, 3, 4)]), Case(reshape(dims(4, 3, -1)), [(2, 3, 4)])]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (dims(0, 0, -1), (2, 3, 20)),
        (dims(-1), (120,)),
        (dims(0, 2, -1, 5), (2, 2, 6, 5)),
        (dims(12) + "axis: 1 num_axes: 2", (2, 12, 5)),
        (dims(1) + "axis: 2 num_axes: 0", (2, 3, 1, 4, 5)),
        (dims(1) + "axis: -1", (2, 3, 4, 5, 1)),
        (dims(-1) + "axis: -3 num_axes: 2", (2, 3, 20)),
    ],
)
def test_shapes(text, shape):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    _, _, top = run_layer(reshape(text), x)
    np.testing.assert_array_equal(top[0].data, x.reshape(shape))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (dims(5, -1), r"bottom 0 \(2, 3\) holds 6 numbers, which do not fit the shape \[5, 1\]"),
        (dims(7), r"bottom 0 \(2, 3\) holds 6 numbers, which do not fit the shape \[7\]"),
        (dims(-1, -1), r"dims must be 0 or more, and at most one -1, got \[-1, -1\]"),
        (dims(0, 0, 0), r"dim 2 is 0 \(copy\), but bottom 0 \(2, 3\) has no axis 2"),
        (dims(6) + "axis: 3", r"axis 3 and num_axes -1 reach beyond bottom 0 \(2, 3\)"),
        (dims(6) + "axis: 1 num_axes: 2", r"axis 1 and num_axes 2 reach beyond bottom 0 \(2, 3\)"),
        (dims(6) + "num_axes: -2", "num_axes must be -1 .* got -2"),
    ],
)
def test_what_is_refused(text, sentence):
    with pytest.raises(LayerError, match="^Reshape layer 'layer': " + sentence):
        run_layer(reshape(text), np.zeros((2, 3)))
