"""Grid."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, top_of


class TestProperties(LayerProperties):
    cases = [Case("type: 'Grid'", [(2, 3, 4, 5)], gradient=())]


def test_grid(engine):
    y = top_of("type: 'Grid'", np.zeros((2, 5, 2, 3)), dtype=np.float32)
    np.testing.assert_array_equal(y, [[[[0, 1, 2]] * 2, [[0] * 3, [1] * 3]]] * 2)


def test_errors_name_the_layer():
    with pytest.raises(LayerError, match=r"^Grid layer 'layer': bottom 0 must be \(N, C, H, W\), got \(3, 4\)"):
        top_of("type: 'Grid'", np.zeros((3, 4)))
