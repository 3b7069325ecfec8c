"""Threshold."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'Threshold' threshold_param { threshold: 0.11 }", [(3, 4)], distinct, gradient=())]


def test_values_at_the_threshold():
    _, _, top = run_layer("type: 'Threshold' threshold_param { threshold: 0.5 }", [0.4, 0.5, 0.6])
    np.testing.assert_array_equal(top[0].data, [0, 0, 1])


def test_there_is_no_gradient():
    layer, bottom, top = run_layer("type: 'Threshold'", [1.0])
    with pytest.raises(LayerError, match="^Threshold layer 'layer': there is no backward pass"):
        layer.backward(top, [True], bottom)
