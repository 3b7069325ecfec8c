"""NegSquare."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, top_of


class TestProperties(LayerProperties):
    cases = [Case("type: 'NegSquare'", [(2, 3, 4)]), Case("type: 'NegSquare'", [(5,)])]


def test_values(engine):
    np.testing.assert_array_equal(top_of("type: 'NegSquare'", [-3.0, 0, 2], dtype=np.float32), [-9, 0, -4])
