"""Upsample, with the places that a Pooling finds."""

import numpy as np
import pytest

from helpers import references
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, normal, top_of


def upsample(text=""):
    return f"type: 'Upsample' upsample_param {{ {text} }}"


def mask_of(width):
    """Random masks of 2 x 2 windows over pictures of this width: one position in each."""

    def places(rng, shape):
        rows, columns = np.indices(shape)[2:] * 2 + rng.integers(0, 2, (2, *shape))
        return (rows * width + columns).astype(float)

    return places


def one_place(rng, shape):
    return np.full(shape, 3.0)


class TestProperties(LayerProperties):
    cases = [
        Case(upsample(), [(2, 3, 2, 3)] * 2, [normal, mask_of(6)], gradient=[0]),
        Case(upsample("upsample_h: 5 upsample_w: 7"), [(1, 2, 2, 3)] * 2, [normal, mask_of(7)], gradient=[0]),
        Case(upsample("scale_h: 2 scale_w: 3"), [(1, 2, 2, 2)] * 2, [normal, mask_of(6)], gradient=[0]),
        Case(upsample("scale: 2"), [(2, 3, 2, 3)]),
        Case(upsample("scale: 3"), [(1, 2, 3, 1)]),
        Case(upsample(), [(1, 2, 3, 2)]),
    ]


def test_values_go_back_to_their_places():
    x = np.random.default_rng(0).permutation(2 * 3 * 4 * 6).reshape(2, 3, 4, 6) + 1.0
    values, places = references.pooling(x, kernel=2, stride=2)
    y = top_of(upsample(), values, places)
    np.testing.assert_array_equal(y, references.scatter(values, places, x.shape))


def test_the_later_of_two_values_counts(engine):
    y = top_of(upsample(), np.arange(8.0).reshape(1, 2, 2, 2), np.full((1, 2, 2, 2), 5.0), dtype=np.float32)
    np.testing.assert_array_equal(np.flatnonzero(y), [5, 21])
    np.testing.assert_array_equal(y.ravel()[[5, 21]], [3, 7])


def test_blobs_that_are_larger_than_a_part():
    shape = (1, 5, 200, 210)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    places = mask_of(420)(np.random.default_rng(1), shape)
    y = top_of(upsample(), values, places, dtype=np.float32)
    np.testing.assert_array_equal(y, references.scatter(values, places, y.shape))


def test_odd_pictures():
    assert top_of(upsample("pad_out_h: true"), np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 3, 3))).shape == (1, 1, 5, 6)


def test_without_a_mask_values_are_repeated(engine):
    x = np.arange(12.0).reshape(1, 2, 2, 3)
    y = top_of(upsample("scale: 3"), x, dtype=np.float32)
    np.testing.assert_array_equal(y, x.repeat(3, axis=2).repeat(3, axis=3))


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("scale: 0", (1, 1, 2, 2), "scale must be at least 1, got 0"),
        ("scale: 2 pad_out_h: true", (1, 1, 2, 2), "without a mask, bottom 1, the only field is scale, got pad_out_h"),
        ("scale: 2", (1, 2), r"bottom 0 must be \(N, C, h, w\), got \(1, 2\)"),
    ],
)
def test_errors_without_a_mask(text, shape, words):
    with pytest.raises(LayerError, match=f"^Upsample layer 'layer': {words}"):
        top_of(upsample(text), np.zeros(shape))


@pytest.mark.parametrize(
    ("text", "mask", "words"),
    [
        ("", np.full((1, 1, 2, 2), 16), r"the mask points to place 16 of pictures of 4 x 4 places"),
        ("", np.zeros((1, 1, 2, 3)), r"bottoms 0 and 1 must be \(N, C, h, w\), got \(1, 1, 2, 2\) and \(1, 1, 2, 3\)"),
        ("scale: 1", np.zeros((1, 1, 2, 2)), "scale_h must be at least 2"),
        ("scale_h: 2", np.zeros((1, 1, 2, 2)), "scale_h and scale_w must be given together"),
    ],
)
def test_errors_name_the_layer(text, mask, words):
    with pytest.raises(LayerError, match=f"^Upsample layer 'layer': {words}"):
        top_of(upsample(text), np.zeros((1, 1, 2, 2)), mask)
