"""Clip."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'Clip' clip_param { min: -0.31 max: 0.4 }", [(3, 4, 2)], distinct)]


def test_values_and_gradient_at_the_limits():
    layer, bottom, top = run_layer("type: 'Clip' clip_param { min: -1 max: 2 }", [-3.0, -1.0, 0.5, 2.0, 4.0])
    np.testing.assert_array_equal(top[0].data, [-1, -1, 0.5, 2, 2])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [0, 1, 1, 1, 0])


def test_limits_must_be_given():
    with pytest.raises(LayerError, match="^Clip layer 'layer': clip_param must give both min and max"):
        run_layer("type: 'Clip'", [1.0])
