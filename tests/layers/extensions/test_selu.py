"""SeLu."""

import math

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'SeLu'", [(2, 3, 4)], distinct)]


def test_values(engine):
    x = np.array([[-2.0, -0.5, 0, 0.5, 3]])
    layer, bottom, top = run_layer("type: 'SeLu'", x, dtype=np.float32)
    top[0].diff[...] = 2
    layer.backward(top, [True], bottom)
    alpha, scale = 1.6732632, 1.0507010
    assert_close(top[0].data, [[scale * (v if v > 0 else alpha * math.expm1(v)) for v in x[0]]])
    assert_close(bottom[0].diff, [[2 * scale * (1 if v > 0 else alpha * math.exp(v)) for v in x[0]]])


def test_mean_and_variance_stay():
    y = run_layer("type: 'SeLu'", np.random.default_rng(0).standard_normal((1000, 100)))[2][0].data
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.02
