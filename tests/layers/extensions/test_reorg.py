"""Reorg: places become channels in Darknet's order."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, top_of


def reorg(text=""):
    return f"type: 'Reorg' reorg_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(reorg("stride: 2"), [(2, 4, 4, 6)]),
        Case(reorg("stride: 2 reverse: true"), [(2, 8, 2, 3)]),
        Case(reorg("stride: 3"), [(1, 9, 3, 6)]),
        Case(reorg("stride: 1"), [(1, 2, 3, 2)]),
    ]


def one_by_one(x, s, reverse):
    """Darknet's loop: value by value, by the position in memory."""
    n, channels, height, width = x.shape
    few = channels // (s * s)
    x, y = x.ravel(), np.empty(x.size)
    for b, c, j, i in np.ndindex(n, channels, height, width):
        near = i + width * (j + height * (c + channels * b))
        column, row = i * s + c // few % s, j * s + c // few // s
        far = column + width * s * (row + height * s * (c % few + few * b))
        y[far if reverse else near] = x[near if reverse else far]
    return y


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("s", "shape"), [(2, (2, 8, 4, 6)), (3, (1, 9, 3, 6))])
def test_values(engine, s, shape, reverse):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = top_of(reorg(f"stride: {s} reverse: {str(reverse).lower()}"), x, dtype=np.float32)
    np.testing.assert_array_equal(y.ravel(), one_by_one(x, s, reverse).astype(np.float32))
    n, c, h, w = shape
    assert y.shape == ((n, c // s**2, h * s, w * s) if reverse else (n, c * s**2, h // s, w // s))


def test_small_blobs():
    x = np.arange(16.0).reshape(1, 4, 2, 2)
    assert top_of(reorg(), x).ravel().tolist() == [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]
    back = top_of(reorg("stride: 2 reverse: true"), x)
    assert back.ravel().tolist() == [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15]


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("stride: 0", (1, 4, 2, 2), "stride must be at least 1, got 0"),
        ("stride: 2", (1, 6, 2, 2), r"bottom 0 must be \(N, C, H, W\) with channels that 4 divides"),
        ("stride: 2", (1, 4, 3, 2), "the stride 2 must divide height and width of bottom 0"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^Reorg layer 'layer': {words}"):
        top_of(reorg(text), np.zeros(shape))
