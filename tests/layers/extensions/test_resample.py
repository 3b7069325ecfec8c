"""Resample."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def resample(text):
    return f"type: 'Resample' resample_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(resample("height: 7 width: 9"), [(2, 3, 4, 5)]),
        Case(resample("height: 3 width: 2"), [(2, 3, 5, 7)]),
        Case(resample("height: 3 width: 9 type: CUBIC antialias: false"), [(1, 2, 5, 7)]),
        Case(resample("type: CUBIC"), [(1, 2, 7, 7), (1, 1, 3, 3)], gradient=[0]),
        Case(resample("height: 3 width: 8 type: NEAREST"), [(1, 2, 5, 6)]),
    ]


def kernel(kind, distance):
    distance = abs(distance)
    if kind == "LINEAR":
        return max(0, 1 - distance)
    if distance <= 1:
        return 1.5 * distance**3 - 2.5 * distance**2 + 1
    return -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2 if distance < 2 else 0


def resampled(x, size, kind, antialias):
    """Of a picture (H, W), by loops over the places of both."""
    f, g = x.shape[0] / size[0], x.shape[1] / size[1]
    shrink = [max(1, factor) if antialias else 1 for factor in (f, g)]
    y = np.zeros(size)
    for i, j in np.ndindex(*size):
        h, w, total = (i + 0.5) * f - 0.5, (j + 0.5) * g - 0.5, 0
        for p, q in np.ndindex(*x.shape):
            weight = kernel(kind, (h - p) / shrink[0]) * kernel(kind, (w - q) / shrink[1])
            y[i, j] += weight * x[p, q]
            total += weight
        y[i, j] /= total
    return y


@pytest.mark.parametrize("kind", ["LINEAR", "CUBIC"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (9, 11), (5, 7), (8, 3)])
def test_against_loops(kind, antialias, size, engine):
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 7))
    text = resample(f"height: {size[0]} width: {size[1]} type: {kind} antialias: {str(antialias).lower()}")
    expected = [resampled(picture, size, kind, antialias) for picture in x[0]]
    assert_close(top_of(text, x, dtype=np.float32)[0], expected, rtol=1e-3)


def test_nearest(engine):
    x = np.arange(6.0).reshape(1, 1, 1, 6)
    y = top_of(resample("height: 1 width: 3 type: NEAREST"), x, dtype=np.float32)
    np.testing.assert_array_equal(y, [[[[1, 3, 5]]]])  # half-way between two places the second
    y = top_of(resample("height: 1 width: 12 type: NEAREST"), x, dtype=np.float32)
    np.testing.assert_array_equal(y[0, 0, 0], np.repeat(np.arange(6), 2))


def test_an_unknown_number_does_not_spread_beyond_its_neighbours(engine):
    x = np.ones((1, 1, 1, 8))
    x[..., 0] = np.nan
    y = top_of(resample("height: 2 width: 4"), x, dtype=np.float32)
    assert np.isnan(y[0, 0, 0, 0])
    np.testing.assert_array_equal(y[0, 0, :, 2:], 1)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (resample("height: 3"), [(1, 1, 2, 2)], r"height and width must be above 0, or bottom 1 .*; got \(3, 0\)"),
        (resample("type: AREA"), [(1, 1, 2, 2)], "type must be NEAREST, LINEAR or CUBIC, got AREA"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Resample layer 'layer': {words}"):
        top_of(text, *map(np.zeros, shapes))
