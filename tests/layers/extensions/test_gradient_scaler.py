"""GradientScaler: the identity, with the gradient reversed."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'GradientScaler'", [(2, 3, 4)], gradient=()),
        Case("type: 'GradientScaler'", [()], gradient=()),
    ]


def test_the_factor_grows(engine):
    text = "type: 'GradientScaler' gradient_scaler_param { lower_bound: 0.1 upper_bound: 0.9 alpha: 3 max_iter: 4 }"
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    layer, bottom, top = build_layer(text, x, phase=0, dtype=np.float32)
    for it in range(6):
        layer.forward(bottom, top)
        assert np.array_equal(top[0].data, x)
        top[0].diff[...] = x + 1
        layer.backward(top, [True], bottom)
        p = min(1, it / 4)
        expected = 2 * 0.8 / (1 + np.exp(-3 * p)) - 0.8 + 0.1  # as the fork writes it
        assert_close(bottom[0].diff, -expected * (x + 1), rtol=1e-6)
        if it == 3:  # a resumed run goes on with the same factor
            state = layer.state()
            layer, bottom, top = build_layer(text, x, phase=0, dtype=np.float32)
            layer.load_state(state)


def test_in_test_nothing_is_counted():
    layer, bottom, top = build_layer("type: 'GradientScaler'", np.zeros(3), phase=1)
    for _ in range(3):
        layer.forward(bottom, top)
    assert layer.factor() == 0


@pytest.mark.parametrize("text", ["lower_bound: 2", "alpha: -1", "max_iter: 0.5"])
def test_parameters(text):
    with pytest.raises(LayerError, match="needs lower_bound <= upper_bound, alpha >= 0 and max_iter >= 1, got "):
        build_layer(f"type: 'GradientScaler' gradient_scaler_param {{ {text} }}", np.zeros(3))
