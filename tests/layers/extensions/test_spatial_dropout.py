"""SpatialDropout: whole maps are dropped."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer, top_of


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'SpatialDropout'", [(3, 5, 2, 3)]),
        Case("type: 'SpatialDropout' dropout_param { dropout_ratio: 0.2 }", [(2, 41)]),
        Case("type: 'SpatialDropout'", [(3, 5, 2)], phase=1),
        Case("type: 'SpatialDropout' dropout_param { sample_weights_test: true }", [(3, 5, 2)], phase=1),
    ]


def test_a_share_of_the_maps_is_dropped_and_the_others_are_scaled(engine):
    x = np.random.default_rng(0).standard_normal((50, 80, 3, 5)) + 5
    layer, bottom, top = run_layer("type: 'SpatialDropout' dropout_param { dropout_ratio: 0.3 }", x)
    factors = top[0].data / x
    np.testing.assert_allclose(factors, np.broadcast_to(factors[..., :1, :1], x.shape), rtol=1e-5)
    dropped = factors[..., 0, 0] == 0
    np.testing.assert_allclose(factors[..., 0, 0][~dropped], 1 / 0.7, rtol=1e-5)
    assert abs(dropped.mean() - 0.3) < 0.03 and 0 < dropped[0].mean() < 1
    state = layer.state()
    layer.forward(bottom, top)
    second = top[0].data.copy()
    assert ((second == 0) != (factors == 0)).any()
    layer.load_state(state)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, second)


def test_in_test_everything_passes():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    np.testing.assert_array_equal(top_of("type: 'SpatialDropout'", x, phase=1), x)


def test_what_is_refused_and_what_has_no_effect(caplog):
    with pytest.raises(LayerError, match=r"bottom 0 must be \(N, C, ...\), got \(3,\)"):
        top_of("type: 'SpatialDropout'", [1.0, 2.0, 3.0])
    top_of("type: 'SpatialDropout' spatial_dropout_param { dropout_ratio: 0.1 }", np.ones((1, 2)))
    assert "spatial_dropout_param has no effect; write dropout_param" in caplog.text
