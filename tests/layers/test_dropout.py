"""Dropout."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer, top_of


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Dropout'", [(3, 5, 2)]),
        Case("type: 'Dropout' dropout_param { dropout_ratio: 0.2 }", [(41,)]),
        Case("type: 'Dropout'", [(3, 5)], phase=1),
        Case("type: 'Dropout' dropout_param { scale_train: false }", [(3, 5)], phase=1),
        Case("type: 'Dropout' dropout_param { sample_weights_test: true }", [(3, 5)], phase=1),
    ]


def test_a_share_of_the_numbers_is_dropped_and_the_mean_stays():
    _, _, top = run_layer("type: 'Dropout' dropout_param { dropout_ratio: 0.3 }", np.ones(20000))
    y = top[0].data
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    assert abs((y == 0).mean() - 0.3) < 0.02


def test_each_pass_draws_anew_and_a_state_repeats():
    layer, bottom, top = run_layer("type: 'Dropout'", np.ones(1000))
    state = layer.state()
    layer.forward(bottom, top)
    first = top[0].data.copy()
    layer.forward(bottom, top)
    assert (top[0].data != first).any()
    layer.load_state(state)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, first)


def test_in_test_everything_passes():
    _, _, top = run_layer("type: 'Dropout'", [1.0, 2.0], phase=1)
    np.testing.assert_array_equal(top[0].data, [1, 2])


def test_the_scale_may_wait_for_test():
    text = "type: 'Dropout' dropout_param { dropout_ratio: 0.25 scale_train: false }"
    np.testing.assert_array_equal(top_of(text, [1.0, 2.0], phase=1), [0.75, 1.5])
    assert set(np.unique(top_of(text, np.ones(100)))) == {0, 1}


def test_numbers_may_be_dropped_in_test_too():
    _, _, top = run_layer("type: 'Dropout' dropout_param { sample_weights_test: true }", np.ones(100), phase=1)
    assert set(np.unique(top[0].data)) == {0, 2}


@pytest.mark.parametrize("ratio", [1, -0.1])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(LayerError, match=f"dropout_ratio must be at least 0 and below 1, got {ratio}"):
        run_layer(f"type: 'Dropout' dropout_param {{ dropout_ratio: {ratio} }}", [1.0])
