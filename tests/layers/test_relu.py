"""ReLU."""

import numpy as np
import pytest

from minicaffe.testing import ONEDNN, Case, LayerProperties, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'ReLU'", [(2, 3, 4, 2)], distinct),
        Case("type: 'ReLU' relu_param { negative_slope: 0.1 }", [(5, 3)], distinct),
        Case("type: 'ReLU' relu_param { negative_slope: 2.5 }", [(7,)], distinct),
        Case("type: 'ReLU'", [()], distinct),
    ]


def test_values_and_gradient_at_zero():
    layer, bottom, top = run_layer("type: 'ReLU' relu_param { negative_slope: 0.25 }", [-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(top[0].data, [-0.5, 0, 3])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [0.25, 0.25, 1])


@pytest.mark.parametrize("slope", [0, 0.5])
def test_infinite_numbers_and_nan(slope, engine):
    _, _, top = run_layer(
        f"type: 'ReLU' relu_param {{ negative_slope: {slope} }}", [-np.inf, np.inf, np.nan], dtype=np.float32
    )
    np.testing.assert_array_equal(top[0].data[:2], [-np.inf if slope else 0, np.inf])
    assert np.isnan(top[0].data[2]) or engine == ONEDNN  # whose ReLU of nan is 0
