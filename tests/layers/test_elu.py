"""ELU."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'ELU'", [(2, 3, 4)], distinct),
        Case("type: 'ELU' elu_param { alpha: 0.3 }", [(5, 2)], distinct),
    ]


def test_values():
    _, _, top = run_layer("type: 'ELU' elu_param { alpha: 0.5 }", [-1000.0, -1.0, 0.0, 2.0, 1000.0])
    np.testing.assert_allclose(top[0].data, [-0.5, 0.5 * (np.exp(-1) - 1), 0, 2, 1000])
