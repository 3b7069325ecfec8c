"""Cosine."""

import math

import numpy as np

from minicaffe.testing import Case, LayerProperties, assert_close, run_layer


class TestProperties(LayerProperties):
    cases = [Case("type: 'Cosine'", [(2, 3, 4)])]


def test_values(engine):
    x = np.array([[0.0, 1.0, -2.0, math.pi]])
    layer, bottom, top = run_layer("type: 'Cosine'", x, dtype=np.float32)
    top[0].diff[...] = 2
    layer.backward(top, [True], bottom)
    assert_close(top[0].data, [[math.cos(v) for v in x[0]]])
    assert_close(bottom[0].diff, [[-2 * math.sin(v) for v in x[0]]])
