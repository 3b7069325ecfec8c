"""Swish."""

import numpy as np

from helpers.references import sigmoid
from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Swish'", [(2, 3, 4)]),
        Case("type: 'Swish' swish_param { beta: 1.7 }", [(5, 2)]),
    ]


def test_values():
    x = np.array([-3.0, 0.0, 2.0])
    _, _, top = run_layer("type: 'Swish' swish_param { beta: 0.5 }", x)
    np.testing.assert_allclose(top[0].data, x * sigmoid(0.5 * x))
