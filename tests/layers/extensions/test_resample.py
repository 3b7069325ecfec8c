"""Resample, Downsample and Accum: pictures of another size."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, run_layer, top_of


def resample(text):
    return f"type: 'Resample' resample_param {{ {text} }}"


def accum(text):
    return f"type: 'Accum' accum_param {{ {text} }}"


DOWN = "type: 'Downsample' downsample_param { top_height: 3 top_width: 4 }"
LIKE = "type: 'Downsample'"


class TestProperties(LayerProperties):
    cases = [
        Case(resample("height: 7 width: 9"), [(2, 3, 4, 5)]),
        Case(resample("height: 3 width: 2"), [(2, 3, 5, 7)]),
        Case(resample("height: 3 width: 9 type: CUBIC antialias: false"), [(1, 2, 5, 7)]),
        Case(resample("type: CUBIC"), [(1, 2, 7, 7), (1, 1, 3, 3)], gradient=[0]),
        Case(resample("height: 3 width: 8 type: NEAREST"), [(1, 2, 5, 6)]),
        Case(DOWN, [(2, 3, 7, 9)], gradient=()),
        Case(LIKE, [(2, 3, 7, 9), (2, 1, 3, 3)], gradient=()),
        Case(accum("size_divisible_by: 4"), [(2, 3, 3, 5), (2, 1, 2, 2)]),
        Case(accum("have_reference: true"), [(2, 1, 3, 5), (2, 2, 4, 1), (2, 1, 4, 6)], gradient=[0, 1]),
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


@pytest.mark.parametrize("text", [resample("height: 2 width: 4"), accum("top_height: 2 top_width: 9")])
def test_an_unknown_number_does_not_spread_beyond_its_neighbours(text, engine):
    x = np.ones((1, 1, 1, 8))
    x[..., 0] = np.nan
    y = top_of(text, x, dtype=np.float32)
    assert np.isnan(y[0, 0, 0, 0])
    np.testing.assert_array_equal(y[0, 0, :, 2:], 1)


# -- Downsample --------------------------------------------------------------------------------------------------------


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


# -- Accum -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shapes", "size"),
    [
        ("", [(3, 5), (4, 2)], (4, 5)),
        ("top_height: 6 top_width: 7", [(3, 5), (4, 2)], (6, 7)),
        ("top_height: 6 top_width: 5", [(3, 5), (4, 2)], (4, 5)),
        ("size_divisible_by: 4", [(3, 5), (4, 2)], (4, 8)),
        ("have_reference: true", [(3, 5), (4, 2), (2, 3)], (2, 3)),
    ],
)
def test_a_plane_stays_a_plane(text, shapes, size, engine):
    """Whose corners have the same values at every size."""
    bottoms = []
    for i, (height, width) in enumerate(shapes):
        plane = np.linspace(0, 3, height)[:, None] + np.linspace(0, 7, width)
        bottoms.append(np.stack([plane + i, 2 * plane])[None])
    joined = shapes[:-1] if "reference" in text else shapes
    y = top_of(accum(text), *bottoms, dtype=np.float32)
    plane = np.linspace(0, 3, size[0])[:, None] + np.linspace(0, 7, size[1])
    assert_close(y, np.stack([each for i in range(len(joined)) for each in (plane + i, 2 * plane)])[None])


def test_the_reference_has_no_gradient(engine):
    x = np.ones((1, 1, 2, 2))
    layer, bottom, top = run_layer(accum("have_reference: true"), x, x, dtype=np.float32)
    top[0].diff[...], bottom[1].diff[...] = 3, 5
    layer.backward(top, [True, True], bottom)
    assert [blob.diff.ravel().tolist() for blob in bottom] == [[3] * 4, [0] * 4]


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (resample("height: 3"), [(1, 1, 2, 2)], r"height and width must be above 0, or bottom 1 .*; got \(3, 0\)"),
        (resample("type: AREA"), [(1, 1, 2, 2)], "type must be NEAREST, LINEAR or CUBIC, got AREA"),
        (LIKE, [(1, 1, 2, 2)], "top_height and top_width must be above 0"),
        (DOWN, [(1, 1, 2)], r"bottom 0 must be \(N, C, H, W\), got \(1, 1, 2\)"),
        (LIKE, [(1, 1, 2, 2), (1, 2)], r"bottom 1, which gives the size, must be \(N, C, H, W\), got \(1, 2\)"),
        (accum("have_reference: true"), [(1, 1, 2, 2)], "have_reference needs at least two bottoms, got 1"),
        (accum(""), [(1, 1, 2, 2), (2, 1, 2, 2)], r"bottom 1 must be \(N, C, H, W\) with N 1, got \(2, 1, 2, 2\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"layer 'layer': {words}"):
        top_of(text, *map(np.zeros, shapes))
