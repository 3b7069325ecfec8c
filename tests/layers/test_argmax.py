"""ArgMax."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, distinct, run_layer, top_of


def argmax(text=""):
    return f"type: 'ArgMax' argmax_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(argmax(text), [shape], distinct, gradient=())
        for text, shape in [
            ("", (3, 4)),
            ("top_k: 3 out_max_val: true", (2, 3, 4, 2)),
            ("axis: 1 top_k: 2", (2, 4, 3)),
            ("axis: -1 top_k: 2 out_max_val: true", (2, 4, 3)),
        ]
    ]


def test_values_and_shapes():
    x = np.array([[3.0, 9.0, 1.0], [5.0, 4.0, 8.0]])
    np.testing.assert_array_equal(top_of(argmax(), x), [[[1]], [[2]]])
    _, _, top = run_layer(argmax("top_k: 2 out_max_val: true"), x)
    np.testing.assert_array_equal(top[0].data, [[[1, 0], [9, 3]], [[2, 0], [8, 5]]])
    np.testing.assert_array_equal(top_of(argmax("axis: 0"), x), [[1, 0, 1]])
    np.testing.assert_array_equal(top_of(argmax("axis: 1 out_max_val: true"), x), [[9], [8]])
    assert run_layer(argmax("top_k: 2"), np.zeros((2, 3, 4, 5)))[2][0].shape == (2, 1, 2, 1)


def test_of_equal_numbers_the_later_comes_first(engine):
    x = [[7.0, 7.0, 1.0, 7.0]]
    np.testing.assert_array_equal(top_of(argmax(), x, dtype=np.float32).ravel(), [3])
    np.testing.assert_array_equal(top_of(argmax("top_k: 3"), x, dtype=np.float32).ravel(), [3, 1, 0])


def test_nan_ranks_as_minus_infinity(engine):
    x = [[np.nan, 2.0, np.nan, 3.0], [np.nan] * 4, [-np.inf, np.nan, -np.inf, 1.0]]
    order = [[3, 1, 2, 0], [3, 2, 1, 0], [3, 2, 1, 0]]
    np.testing.assert_array_equal(top_of(argmax(), x, dtype=np.float32).ravel(), [3, 3, 3])
    np.testing.assert_array_equal(top_of(argmax("top_k: 4"), x, dtype=np.float32)[:, 0], order)
    _, _, top = run_layer(argmax("axis: 1 out_max_val: true"), x, dtype=np.float32)
    np.testing.assert_array_equal(top[0].data.ravel(), [3, np.nan, 1])


@pytest.mark.parametrize("k", [0, 7])
def test_top_k_out_of_range_is_refused(k):
    with pytest.raises(LayerError, match=f"top_k must be 1 to 6, the numbers there are to choose from, got {k}"):
        run_layer(argmax(f"top_k: {k}"), np.zeros((2, 3, 2)))


def test_a_scalar_is_refused():
    with pytest.raises(LayerError, match=r"bottom 0 must be \(N, \.\.\.\), got a scalar"):
        run_layer(argmax("top_k: 1"), np.zeros(()))
