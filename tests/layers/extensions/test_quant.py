"""Quant."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer

X = [-2.0, -1, -0.5, 0, 0.3, 0.75, 0.8, 1, 1.5, 3]


def quant(text):
    return f"type: 'Quant' quant_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(quant("centers: 0.5 centers: 1 centers: 2"), [(2, 3, 4)], distinct, gradient=()),
        Case(quant("forward_func: 'sign' backward_func: 'hard_tanh' clip_thr: 1"), [(3, 4)], distinct, gradient=()),
        Case(quant("forward_func: 'relu' negative_slope: 0.2"), [(3, 4)], distinct),
        Case(quant("forward_func: 'hard_tanh' backward_func: 'hard_tanh' clip_thr: 1"), [(2, 3)], distinct),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("forward_func: 'sign'", [-1, -1, -1, 1, 1, 1, 1, 1, 1, 1]),
        ("forward_func: 'hard_tanh'", [-1, -1, -0.5, 0, 0.3, 0.75, 0.8, 1, 1, 1]),
        ("centers: 0.5 centers: 1 centers: 2", [0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 2]),
        ("centers: 0.5 negative_slope: 1", [-1, -1, -1, -1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ("forward_func: 'relu' negative_slope: 0.5", [-1, -0.5, -0.25, 0, 0.3, 0.75, 0.8, 1, 1.5, 3]),
    ],
)
def test_values(text, expected, engine):
    assert_close(run_layer(quant(text), [X], dtype=np.float32)[2][0].data, [expected])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("backward_func: 'relu'", [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
        ("backward_func: 'relu' clip_thr: 1 negative_slope: 0.5", [0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1, 0, 0]),
        ("backward_func: 'hard_tanh'", [1] * 10),
        ("backward_func: 'hard_tanh' clip_thr: 1", [0, 1, 1, 1, 1, 1, 1, 1, 0, 0]),
    ],
)
def test_gradients(text, expected, engine):
    layer, bottom, top = run_layer(quant(text + " forward_func: 'sign'"), [X], dtype=np.float32)
    top[0].diff[...] = 3
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, [np.multiply(3, expected)])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("forward_func: 'x'", 'forward_func must be one of sign, hard_tanh, hwgq, relu, got "x"'),
        ("backward_func: 'sign' centers: 1", 'backward_func must be one of hard_tanh, relu, got "sign"'),
        ("", r"hwgq needs centers that are above 0 and ascend, got \[\]"),
        ("centers: 2 centers: 1", r"hwgq needs centers that are above 0 and ascend, got \[2.0, 1.0\]"),
    ],
)
def test_what_is_refused(text, sentence):
    with pytest.raises(LayerError, match="^Quant layer 'layer': " + sentence):
        run_layer(quant(text), [[1.0]])
