"""Sigmoid."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'Sigmoid'", [(2, 3, 4)])]


def test_values_even_where_exp_would_overflow():
    _, _, top = run_layer("type: 'Sigmoid'", [-1000.0, -1.0, 0.0, 2.0, 1000.0])
    np.testing.assert_allclose(top[0].data, [0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-2)), 1], rtol=1e-12)
