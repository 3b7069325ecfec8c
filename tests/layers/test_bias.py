"""Bias."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def bias(text=""):
    return f"type: 'Bias' bias_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(bias(), [(2, 3, 4)]),
        Case(bias("axis: -1"), [(2, 3)]),
        Case(bias("axis: 0 num_axes: -1"), [(2, 3)]),
        Case(bias("num_axes: 0"), [(2, 3)]),
        Case(bias("axis: 0"), [(2, 3, 2), (2, 3)]),
        Case(bias(), [(2, 3), ()]),
    ]


def test_values():
    x = np.arange(12.0).reshape(2, 3, 2)
    _, _, top = run_layer(bias(), x, [10.0, 20.0, 30.0])
    np.testing.assert_array_equal(top[0].data, x + np.array([10, 20, 30])[None, :, None])


def test_a_bottom_that_does_not_fit_is_refused():
    with pytest.raises(
        LayerError, match=r"bottom 1 must have the shape of bottom 0 \(2, 3\) from axis 1 on, got \(2,\)"
    ):
        run_layer(bias(), np.zeros((2, 3)), np.zeros(2))
