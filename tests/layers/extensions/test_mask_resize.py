"""MaskResize, by plain loops."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def resize(height, width):
    return f"type: 'MaskResize' mask_resize_param {{ output_height: {height} output_width: {width} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(resize(3, 2), [(2, 2, 5, 6)]),
        Case(resize(9, 4), [(2, 3, 2, 3)]),
        Case(resize(2, 3), [(1, 1, 1, 1)]),
    ]


def by_loops(x, size):
    y = np.zeros((*x.shape[:2], *size))
    (h, w), (high, wide) = x.shape[2:], size
    for n, c, i, j in np.ndindex(y.shape):
        row, column = i * h / high, j * w / wide
        if row > h - 0.5 or column > w - 0.5:
            continue
        top, left = min(int(row), h - 1), min(int(column), w - 1)
        down, across = min(row, h - 1) - top, min(column, w - 1) - left
        bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
        above = (1 - across) * x[n, c, top, left] + across * x[n, c, top, right]
        below = (1 - across) * x[n, c, bottom, left] + across * x[n, c, bottom, right]
        y[n, c, i, j] = (1 - down) * above + down * below
    return y


@pytest.mark.parametrize(("old", "new"), [((21, 21), (14, 14)), ((4, 5), (16, 5)), ((2, 7), (3, 1)), ((3, 4), (3, 4))])
def test_against_a_loop(engine, old, new):
    x = np.random.default_rng(0).standard_normal((2, 2, *old))
    assert_close(top_of(resize(*new), x, dtype=np.float32), by_loops(x, new))


def test_far_behind_the_last_place_it_is_0():
    y = top_of(resize(1, 8), np.ones((1, 1, 1, 2)))
    np.testing.assert_allclose(y[0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        (resize(0, 4), (1, 1, 2, 2), r"output_height and output_width must be at least 1, got \(0, 4\)"),
        (resize(2, 4), (1, 2, 2), r"bottom 0 must be \(N, C, h, w\), got \(1, 2, 2\)"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^MaskResize layer 'layer': {words}"):
        top_of(text, np.zeros(shape))
