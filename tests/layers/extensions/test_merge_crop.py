"""MergeCrop, by slices."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer, top_of

BOTH = "backward: true backward: true"


def merge_crop(text=""):
    return f"type: 'MergeCrop' mergecrop_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'MergeCrop'", [(2, 3, 4, 2), (2, 2, 7, 5)], gradient=[0]),
        Case(merge_crop(BOTH), [(2, 2, 4, 2), (2, 3, 7, 4)]),
        Case(merge_crop(BOTH + " operation: ADD"), [(2, 2, 3), (2, 2, 6)]),
        Case(merge_crop(BOTH), [(2, 1, 2, 3, 1), (2, 2, 4, 3, 4)]),
        Case(merge_crop(BOTH + " forward: true"), [(1, 2), (1, 3)]),
    ]


A, B = np.random.default_rng(0).standard_normal((2, 3, 4, 2)), np.random.default_rng(1).standard_normal((2, 3, 7, 6))
CENTRE = B[:, :, 1:5, 2:4]


def test_the_centre_is_joined(engine):
    y = top_of("type: 'MergeCrop'", A, B, dtype=np.float32)
    np.testing.assert_array_equal(y, np.concatenate([A, CENTRE], 1).astype(np.float32))
    y = top_of(merge_crop("operation: ADD"), A, B, dtype=np.float32)
    np.testing.assert_allclose(y, A + CENTRE, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "y"),
    [
        ("forward: false", np.concatenate([0 * A, CENTRE], 1)),
        ("forward: true forward: false", np.concatenate([A, 0 * CENTRE], 1)),
        ("forward: true forward: false operation: ADD", A),
    ],
)
def test_a_bottom_that_does_not_count_is_0(engine, text, y):
    np.testing.assert_array_equal(top_of(merge_crop(text), A, B, dtype=np.float32), y.astype(np.float32))


@pytest.mark.parametrize(("text", "learns"), [("", (True, False)), ("backward: false " + BOTH[15:], (False, True))])
def test_a_bottom_without_a_gradient_gets_0(engine, text, learns):
    layer, bottom, top = run_layer(merge_crop(text), A, B, dtype=np.float32)
    top[0].diff[...] = 1
    for blob in bottom:
        blob.diff[...] = 7
    layer.backward(top, [True, True], bottom)
    assert [blob.diff.sum() for blob in bottom] == [A.size * learns[0], A.size * learns[1]]


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("", [(1, 2, 4), (1, 2, 3)], r"bottom 1 must be \(N, D, ...\), nowhere smaller than bottom 0"),
        ("", [(1, 2, 4), (2, 2, 4)], r"bottom 1 must be \(N, D, ...\), nowhere smaller than bottom 0"),
        ("operation: ADD", [(1, 2, 4), (1, 3, 4)], "with ADD the bottoms must have equally many channels"),
        ("forward: true " * 3, [(1, 2), (1, 2)], r"forward must be given at most twice, got \[True, True, True\]"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^MergeCrop layer 'layer': {words}"):
        top_of(merge_crop(text), *(np.zeros(shape) for shape in shapes))
