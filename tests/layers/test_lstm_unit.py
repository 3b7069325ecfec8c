"""LSTMUnit, by its formula."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, labels, normal, run_layer

SHAPES = [(1, 3, 2), (1, 3, 8), (1, 3)]


def all_go_on(rng, shape):
    return np.ones(shape)


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'LSTMUnit'", SHAPES, [normal, normal, labels(2)], gradient=[0, 1], num_top=2),
        Case("type: 'LSTMUnit'", SHAPES, [normal, normal, all_go_on], gradient=[0, 1], num_top=2),
    ]


def test_values():
    rng = np.random.default_rng(0)
    c_prev, x, cont = rng.standard_normal((1, 3, 2)), rng.standard_normal((1, 3, 8)), np.array([[0, 1, 1.0]])
    i, f, o, g = x[..., :2], x[..., 2:4], x[..., 4:6], x[..., 6:]
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = cont[..., None] * f * c_prev + i * np.tanh(g)
    _, _, top = run_layer("type: 'LSTMUnit'", c_prev, x, cont, num_top=2)
    assert_close(top[0].data, c, rtol=1e-9)
    assert_close(top[1].data, o * np.tanh(c), rtol=1e-9)


def test_errors_name_the_layer():
    with pytest.raises(LayerError, match=r"layer 'r': bottom 1 must hold four gates, \(1, 2, 12\), got"):
        run_layer("type: 'LSTMUnit' name: 'r'", np.zeros((1, 2, 3)), np.zeros((1, 2, 9)), np.zeros((1, 2)), num_top=2)
