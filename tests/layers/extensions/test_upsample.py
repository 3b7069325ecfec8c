"""Upsample, with the mask of a Pooling."""

import numpy as np
import pytest

from minicaffe import gradient_check
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, normal


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
    ]


def run(text, x, mask, dtype=np.float64):
    layer = gradient_check.layer_from_text(text, 0, dtype)
    bottom, top = gradient_check.blobs_of([x, mask], dtype), gradient_check.blobs_of([0], dtype)
    layer.initialize(bottom, top)
    layer.forward(bottom, top)
    return top[0].data


def test_values_go_back_to_their_places():
    x = np.random.default_rng(0).permutation(2 * 3 * 4 * 6).reshape(2, 3, 4, 6) + 1.0
    pool = gradient_check.layer_from_text("type: 'Pooling' pooling_param { kernel_size: 2 stride: 2 }", 0, np.float64)
    bottom, top = gradient_check.blobs_of([x], np.float64), gradient_check.blobs_of([0, 0], np.float64)
    pool.initialize(bottom, top)
    pool.forward(bottom, top)
    y = run(upsample(), top[0].data, top[1].data)
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    assert (y != 0).sum() == top[0].count


def test_the_later_of_two_values_counts(device):
    y = run(upsample(), np.arange(8.0).reshape(1, 2, 2, 2), np.full((1, 2, 2, 2), 5.0), np.float32)
    np.testing.assert_array_equal(np.flatnonzero(y), [5, 21])
    np.testing.assert_array_equal(y.ravel()[[5, 21]], [3, 7])


def test_odd_pictures():
    assert run(upsample("pad_out_h: true"), np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 3, 3))).shape == (1, 1, 5, 6)


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
        run(upsample(text), np.zeros((1, 1, 2, 2)), mask)
