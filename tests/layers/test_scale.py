"""Scale."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def scale(text=""):
    return f"type: 'Scale' scale_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(scale(), [(2, 3, 4)]),
        Case(scale("bias_term: true"), [(2, 3, 2, 2)]),
        Case(scale("axis: -1 bias_term: true"), [(2, 3)]),
        Case(scale("axis: 0 num_axes: -1"), [(2, 3)]),
        Case(scale("num_axes: 0 bias_term: true"), [(2, 3)]),
        Case(scale("axis: 0"), [(2, 3, 2), (2, 3)]),
        Case(scale("bias_term: true"), [(2, 3, 2), (3,)]),
        Case(scale("axis: 2"), [(2, 3, 2), ()]),
        Case(scale(), [(2, 2, 70, 70)], params=False, gradient=()),
    ]


def test_values_and_default_fillers():
    x = np.arange(12.0).reshape(2, 3, 2)
    layer, _, top = run_layer(scale("bias_term: true"), x)
    np.testing.assert_array_equal(layer.blobs[0].data, [1, 1, 1])
    np.testing.assert_array_equal(layer.blobs[1].data, [0, 0, 0])
    np.testing.assert_array_equal(top[0].data, x)
    _, _, top = run_layer(scale(), x, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(top[0].data, x * np.array([1, 2, 3])[None, :, None])


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("axis: 3", [(2, 3)], r"axis 3 is out of range for a blob of 2 axes"),
        ("num_axes: 3", [(2, 3)], r"axis 1 and num_axes 3 reach beyond the axes of bottom 0 \(2, 3\)"),
        ("num_axes: -2", [(2, 3)], r"num_axes must be -1 .* got -2"),
        ("", [(2, 3), (2, 3)], r"bottom 1 must have the shape of bottom 0 \(2, 3\) from axis 1 on, got \(2, 3\)"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match="^Scale layer 'layer': " + sentence):
        run_layer(scale(text), *(np.zeros(shape) for shape in shapes))
