"""Reduction."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, distinct, run_layer


def reduction(text=""):
    return f"type: 'Reduction' reduction_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(reduction(f"operation: {operation} axis: {axis} coeff: 1.3"), [(2, 3, 4)], distinct)
        for operation in ("SUM", "ASUM", "SUMSQ", "MEAN")
        for axis in (0, 1, -1)
    ]


@pytest.mark.parametrize(
    ("operation", "function"),
    [("SUM", np.sum), ("ASUM", lambda x: np.abs(x).sum()), ("SUMSQ", lambda x: (x**2).sum()), ("MEAN", np.mean)],
)
def test_values_against_a_loop(operation, function):
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    _, _, top = run_layer(reduction(f"operation: {operation} axis: 1 coeff: 2"), x)
    np.testing.assert_allclose(top[0].data, [2 * function(row) for row in x])
    assert run_layer(reduction(), x)[2][0].shape == ()


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(LayerError, match="^Reduction layer 'layer': axis 3 is out of range for a blob of 2 axes"):
        run_layer(reduction("axis: 3"), np.zeros((2, 3)))
