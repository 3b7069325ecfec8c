"""Softmax."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Softmax'", [(3, 5)]),
        Case("type: 'Softmax'", [(2, 3, 2, 2)]),
        Case("type: 'Softmax' softmax_param { axis: -1 }", [(2, 3, 4)]),
        Case("type: 'Softmax' softmax_param { axis: 0 }", [(4, 3)]),
        Case("type: 'Softmax'", [(2, 300)], gradient=()),
    ]


def test_values_even_where_exp_would_overflow():
    x = np.array([[1000.0, 1001.0, 999.0], [-1e5, 0.0, -3.0]])
    _, _, top = run_layer("type: 'Softmax'", x)
    for row, scores in zip(top[0].data, x):
        expected = [1 / sum(np.exp(min(other - own, 700.0)) for other in scores) for own in scores]
        np.testing.assert_allclose(row, expected, rtol=1e-12, atol=1e-300)


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(LayerError, match="^Softmax layer 'layer': axis 2 is out of range for a blob of 2 axes"):
        run_layer("type: 'Softmax' softmax_param { axis: 2 }", np.zeros((2, 3)))
