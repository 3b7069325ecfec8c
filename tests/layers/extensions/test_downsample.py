"""Downsample."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of

DOWN = "type: 'Downsample' downsample_param { top_height: 3 top_width: 4 }"
LIKE = "type: 'Downsample'"


class TestProperties(LayerProperties):
    cases = [
        Case(DOWN, [(2, 3, 7, 9)], gradient=()),
        Case(LIKE, [(2, 3, 7, 9), (2, 1, 3, 3)], gradient=()),
    ]


def downsampled(x, size):
    steps = [(n - 1) / (m - 1) for n, m in zip(x.shape, size)]
    y = np.zeros(size)
    for i, j in np.ndindex(*size):
        total = known = lost = 0.0
        for p, q in np.ndindex(*x.shape):
            distances = [abs(place * step - old) / step for place, step, old in zip((i, j), steps, (p, q))]
            weight = max(0, 1 - distances[0]) * max(0, 1 - distances[1])
            if np.isnan(x[p, q]):
                lost += weight
            else:
                total += weight * x[p, q]
                known += weight
        y[i, j] = np.nan if known == 0 or lost / known > 0.5 else total / known
    return y


def test_downsample_against_loops(engine):
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 9))
    x[0, 0, 2:5, :4] = np.nan
    x[0, 1, 6, 8] = x[0, 1, 3, 3] = np.nan
    expected = np.stack([downsampled(picture, (3, 4)) for picture in x[0]])
    assert np.isnan(expected).any()
    assert_close(top_of(DOWN, x, dtype=np.float32)[0], expected)
    assert_close(top_of(LIKE, x, np.zeros((1, 5, 3, 4)), dtype=np.float32)[0], expected)


def test_of_equal_size_nothing_changes(engine):
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4))
    x[0, 0, 1, 1] = np.nan
    assert_close(top_of(DOWN, x, dtype=np.float32), x)


def test_one_place_has_the_mean(engine):
    x = np.random.default_rng(0).standard_normal((1, 1, 3, 4))
    assert_close(top_of(LIKE, x, np.zeros((1, 1, 1, 1)), dtype=np.float32), x.mean((2, 3), keepdims=True))


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (LIKE, [(1, 1, 2, 2)], "top_height and top_width must be above 0"),
        (DOWN, [(1, 1, 2)], r"bottom 0 must be \(N, C, H, W\), got \(1, 1, 2\)"),
        (LIKE, [(1, 1, 2, 2), (1, 2)], r"bottom 1, which gives the size, must be \(N, C, H, W\), got \(1, 2\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Downsample layer 'layer': {words}"):
        top_of(text, *map(np.zeros, shapes))
