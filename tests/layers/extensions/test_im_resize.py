"""ImResize, by plain loops."""

import math

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def resize(text):
    return f"type: 'ImResize' imresize_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(resize("factor: 2.5"), [(1, 2, 4, 3)]),
        Case(resize("target_spatial_height: 5 target_spatial_width: 7 scale_gap: 0.3"), [(3, 2, 9, 8)]),
        Case(resize("factor: 0.5"), [(1, 1, 7, 6)]),
    ]


def cubic(v, t):
    return (
        (-0.5 * v[0] + 1.5 * v[1] - 1.5 * v[2] + 0.5 * v[3]) * t**3
        + (v[0] - 2.5 * v[1] + 2 * v[2] - 0.5 * v[3]) * t**2 + (-0.5 * v[0] + 0.5 * v[2]) * t + v[1]
    )  # fmt: skip


def neighbours(place, size, new_size):
    at = (place - (new_size / size / 2 - 0.5)) * size / new_size
    first = max(int(at + 1e-5), 0)
    return [max(first - 1, 0), first, min(first + 1, size - 1), min(first + 2, size - 1)], at - first


def by_loops(x, size, start=1.0, gap=0.1):
    y = np.zeros((1, x.shape[1], *size))
    for n, c, i, j in np.ndindex(len(x), *y.shape[1:]):
        pads = [math.floor(length // 2 * (1 - start + n * gap) + 1e-6) for length in x.shape[2:]]
        inner = x[n, c, pads[0] : x.shape[2] - pads[0], pads[1] : x.shape[3] - pads[1]]
        rows, down = neighbours(i, inner.shape[0], size[0])
        columns, across = neighbours(j, inner.shape[1], size[1])
        y[0, c, i, j] += cubic([cubic([inner[r, k] for k in columns], across) for r in rows], down) / len(x)
    return y


@pytest.mark.parametrize(
    ("text", "shape", "size", "scales"),
    [
        ("factor: 8", (1, 2, 4, 5), (32, 40), (1, 0.1)),
        ("target_spatial_height: 5 target_spatial_width: 20", (3, 2, 12, 10), (5, 20), (1, 0.1)),
        ("factor: 2 start_scale: 0.75 scale_gap: 0.25", (2, 1, 8, 9), (16, 18), (0.75, 0.25)),
    ],
)
def test_against_a_loop(engine, text, shape, size, scales):
    x = np.random.default_rng(0).standard_normal(shape)
    assert_close(top_of(resize(text), x, dtype=np.float32), by_loops(x, size, *scales))


def test_the_same_size_is_the_same_picture():
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 6))
    np.testing.assert_allclose(top_of(resize("factor: 1"), x), x, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("factor: 0.1", (1, 1, 4, 4), "the size must be at least 1 x 1, got 0 x 0"),
        ("scale_gap: 0.5", (3, 1, 4, 4), "start_scale and scale_gap leave 0 of 4 rows or columns of picture 2"),
        ("", (0, 1, 4, 4), r"bottom 0 must be \(N, C, h, w\) with a picture, got"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^ImResize layer 'layer': {words}"):
        top_of(resize(text), np.zeros(shape))
