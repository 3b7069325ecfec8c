"""RReLU."""

import math

import numpy as np
import pytest

from minicaffe.core import random
from minicaffe.errors import LayerError
from minicaffe.proto import TEST
from minicaffe.testing import CUDA, NUMPY, Case, LayerProperties, assert_close, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'RReLU'", [(2, 3, 4)], distinct, phase=TEST),
        Case("type: 'RReLU' rrelu_param { lb: 3 ub: 8 }", [(5, 4)], distinct, phase=TEST),
    ]


def test_in_test_the_slope_is_fixed(engine):
    layer, bottom, top = run_layer("type: 'RReLU'", [[-3.0, 0, 2]], phase=TEST, dtype=np.float32)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    slope = math.log(2) / 5
    assert_close(top[0].data, [[-3 * slope, 0, 2]])
    assert_close(bottom[0].diff, [[slope, slope, 1]])


def test_in_train_divisors_are_uniform(engine):
    x = np.random.default_rng(0).standard_normal((100, 50))
    layer, bottom, top = run_layer("type: 'RReLU' rrelu_param { lb: 2 ub: 6 }", x, dtype=np.float32)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    y, below = top[0].data, x < 0
    assert_close(y[~below], x[~below])
    divisors = x[below] / y[below]
    assert 1.99 < divisors.min() < 2.1 and 5.9 < divisors.max() < 6.01
    assert abs(divisors.mean() - 4) < 0.1 and abs(divisors.var() - 16 / 12) < 0.1
    assert_close(bottom[0].diff, y / x)
    first = y.copy()
    layer.forward(bottom, top)
    assert (first[below] != top[0].data[below]).mean() > 0.99


@pytest.mark.gpu
def test_both_devices_draw_the_same_numbers(gpu_mode):
    seen = []
    for engine in (NUMPY, CUDA):
        with engine.chosen(), random.seeded(5):
            layer, bottom, top = run_layer("type: 'RReLU'", -np.ones((3, 7)), dtype=np.float32)
            layer.forward(bottom, top)
            seen.append(top[0].data.copy())
    assert_close(seen[1], seen[0])


@pytest.mark.parametrize("limits", ["lb: 5 ub: 5", "lb: -1 ub: 2", "lb: 0 ub: 2"])
def test_limits_that_hold_no_divisors_are_refused(limits):
    with pytest.raises(LayerError, match="^RReLU layer 'layer': lb must be below ub, and both above or both below 0"):
        run_layer(f"type: 'RReLU' rrelu_param {{ {limits} }}", [[1.0]])
