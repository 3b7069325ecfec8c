"""TanH."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'TanH'", [(2, 3, 4)])]


def test_values():
    x = np.linspace(-3, 3, 7)
    _, _, top = run_layer("type: 'TanH'", x)
    np.testing.assert_allclose(top[0].data, (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1), rtol=1e-12, atol=1e-15)
