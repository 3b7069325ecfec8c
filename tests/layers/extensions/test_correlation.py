"""Correlation."""

import numpy as np
import pytest

from helpers.flow_loops import correlated
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer, top_of


def correlation(text):
    return f"type: 'Correlation' correlation_param {{ {text} }}"


SHAPES = [(2, 3, 5, 6)] * 2
APART = [distinct, lambda rng, shape: distinct(rng, shape) + 0.025]  # no number of one bottom is one of the other


class TestProperties(LayerProperties):
    cases = [
        Case(correlation("pad: 2 kernel_size: 1 max_displacement: 2"), SHAPES),
        Case(correlation("pad: 3 kernel_size: 3 max_displacement: 3 stride_1: 2 stride_2: 2"), SHAPES),
        Case(correlation("kernel_size: 1 max_displacement: 0"), SHAPES),
        Case(correlation("kernel_size: 1 max_displacement: 1 stride_2: 3"), SHAPES),
        Case(correlation("pad: 2 kernel_size: 3 max_displacement: 1 correlation_type: SUBTRACT"), SHAPES, APART),
    ]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("pad: 2 kernel_size: 1 max_displacement: 2", ((2, 2), 1, (2, 2), 1, range(-2, 3), range(-2, 3))),
        (
            "pad: 3 kernel_size: 3 max_displacement: 3 stride_1: 2 stride_2: 2",
            ((3, 3), 3, (3, 3), 2, range(-2, 3, 2), range(-2, 3, 2)),
        ),
        (
            "kernel_size: 1 max_displacement: 1 correlation_type: SUBTRACT",
            ((0, 0), 1, (1, 1), 1, range(-1, 2), range(-1, 2), True),
        ),
    ],
)  # fmt: skip
def test_against_loops(text, arguments):
    a, b = np.random.default_rng(0).standard_normal((2, 2, 3, 5, 7))
    expected = np.stack([correlated(*pair, *arguments) for pair in zip(a, b)])
    assert_close(top_of(correlation(text), a, b), expected, rtol=1e-9)


def test_the_displacement_of_a_shifted_picture_wins():
    a = np.random.default_rng(0).standard_normal((1, 16, 9, 9))
    y = top_of(correlation("pad: 2 kernel_size: 1 max_displacement: 2"), a, np.roll(a, (1, -2), (2, 3)))
    assert (y[0, :, 2:-2, 2:-2].argmax(0) == 3 * 5 + 0).all()  # one row down, two columns to the left


def test_of_equal_values_subtraction_has_the_gradient_of_the_difference(engine):
    x = np.ones((1, 1, 2, 2), np.float32)
    text = correlation("kernel_size: 1 max_displacement: 0 correlation_type: SUBTRACT")
    layer, bottom, top = run_layer(text, x, x, dtype=np.float32)
    top[0].diff[...] = 2
    layer.backward(top, [True, True], bottom)
    np.testing.assert_array_equal([blob.diff.flat[0] for blob in bottom], [2, -2])


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("max_displacement: 1", SHAPES, "correlation_param needs kernel_size"),
        ("kernel_size: 1", SHAPES, "correlation_param needs max_displacement"),
        ("kernel_size: 2 max_displacement: 1", SHAPES, "kernel_size must be odd, got 2"),
        ("kernel_size: 1 max_displacement: 1 stride_2: 0", SHAPES, "stride_1 and stride_2 must be at least 1"),
        ("kernel_size: 1 max_displacement: 4", SHAPES, "leave no place of bottoms of shape"),
        (
            "kernel_size: 1 max_displacement: 1", [(2, 3, 5, 6), (2, 3, 5, 5)],
            r"of one shape, with channels, got \(2, 3, 5, 6\) and \(2, 3, 5, 5\)",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Correlation layer 'layer': .*{words}"):
        top_of(correlation(text), *map(np.zeros, shapes))
