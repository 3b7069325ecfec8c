"""AbsVal."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'AbsVal'", [(2, 3, 4)], distinct)]


def test_values_and_gradient_at_zero():
    layer, bottom, top = run_layer("type: 'AbsVal'", [-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(top[0].data, [2, 0, 3])
    top[0].diff[...] = 5
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [-5, 0, 5])


def test_in_place_is_refused():
    layer, bottom, _ = run_layer("type: 'AbsVal'", [1.0])
    with pytest.raises(LayerError, match="^AbsVal layer 'layer': cannot work in place"):
        layer.initialize(bottom, bottom)
