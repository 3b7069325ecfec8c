"""Affinity, by plain loops."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, labels, run_layer, top_of


def affinity(text=""):
    return f"type: 'Affinity' affinity_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Affinity'", [(2, 1, 4, 5)], distinct),
        Case(affinity("offset: 2"), [(2, 3, 3, 4)], distinct),
        Case(affinity("offset: 1 offset: 3"), [(1, 3, 4, 3), (2, 4, 3, 2)], distinct, num_top=2),
        Case(affinity("offset: 1"), [(2, 2, 4, 4)], labels(2), gradient=()),
        Case("type: 'Affinity'", [(1, 1, 1, 5)], distinct),
    ]


def edges(x, offset):
    y = np.zeros((len(x), 2, *x.shape[2:]))
    for n, i, j in np.ndindex(len(x), x.shape[2] - 1, x.shape[3] - 1):
        p = x[n, offset]
        y[n, :, i, j] = min(p[i, j], p[i + 1, j]), min(p[i, j], p[i, j + 1])
    return y


def gradient(x, dy, offset):
    dx = np.zeros(x.shape)
    for n, i, j in np.ndindex(len(x), x.shape[2] - 1, x.shape[3] - 1):
        p = x[n, offset]
        for edge, other in enumerate([(i + 1, j), (i, j + 1)]):
            smaller = (i, j) if p[i, j] < p[other] else other
            dx[(n, offset, *smaller)] += dy[n, edge, i, j]
            dx[(n, 1 - offset, *smaller)] -= dy[n, edge, i, j]
    return dx


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("values", [distinct, labels(3)])
def test_two_channels_against_a_loop(engine, offset, values):
    """With ties, and with the other channel's gradient."""
    rng = np.random.default_rng(0)
    x = values(rng, (2, 2, 5, 6))
    layer, bottom, top = run_layer(affinity(f"offset: {offset}"), x, dtype=np.float32)
    np.testing.assert_array_equal(top[0].data, edges(x, offset).astype(np.float32))
    top[0].diff[...] = dy = rng.standard_normal(top[0].shape)
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, gradient(x, dy, offset))


def test_behind_a_softmax_the_gradient_is_twice_the_derivative():
    rng = np.random.default_rng(0)
    scores, weights = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((1, 2, 4, 4))
    softmax, below, middle = run_layer("type: 'Softmax'", scores)
    layer, _, top = run_layer("type: 'Affinity'", middle[0].data)
    top[0].diff[...] = weights
    layer.backward(top, [True], middle)
    softmax.backward(middle, [True], below)

    def loss(values):
        return (top_of("type: 'Affinity'", top_of("type: 'Softmax'", values)) * weights).sum()

    for index in np.ndindex(scores.shape):
        step = np.zeros(scores.shape)
        step[index] = 1e-6
        slope = (loss(scores + step) - loss(scores - step)) / 2e-6
        assert abs(below[0].diff[index] - 2 * slope) < 1e-7


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("offset: 2", (1, 2, 3, 3), r"bottom 0 must be \(N, C, H, W\) with a channel 2 \(its offset\), got"),
        ("", (1, 2, 3), r"bottom 0 must be \(N, C, H, W\) with a channel 0"),
        ("offset: 0 offset: 0", (1, 2, 3, 3), "offset must be given at most once for each of 1 bottoms"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^Affinity layer 'layer': {words}"):
        top_of(affinity(text), np.zeros(shape))
