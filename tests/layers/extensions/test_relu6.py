"""ReLU6."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, distinct, run_layer


def wide(rng, shape):
    return 8 * distinct(rng, shape)


class TestProperties(LayerProperties):
    cases = [Case("type: 'ReLU6'", [(2, 3, 8)], wide)]


def test_values_and_gradient_at_the_ends():
    layer, bottom, top = run_layer("type: 'ReLU6'", [-1.0, 0.0, 3.0, 6.0, 9.0])
    np.testing.assert_array_equal(top[0].data, [0, 0, 3, 6, 6])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [0, 0, 1, 0, 0])
