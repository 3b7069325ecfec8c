"""Correlation1D."""

import numpy as np
import pytest

from helpers.flow_loops import correlated
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, top_of


def stereo(text):
    return f"type: 'Correlation1D' correlation_param {{ {text} }}"


SHAPES = [(2, 3, 5, 6)] * 2
APART = [distinct, lambda rng, shape: distinct(rng, shape) + 0.025]  # no number of one bottom is one of the other


class TestProperties(LayerProperties):
    cases = [
        Case(stereo("pad: 2 kernel_size: 3 max_displacement: 2"), SHAPES),
        Case(stereo("pad: 3 kernel_size: 1 max_displacement: 3 stride_2: 2 single_direction: -1"), SHAPES),
        Case(stereo("pad: 1 kernel_size: 1 max_displacement: 2 stride_1: 2 single_direction: 1"), SHAPES),
        Case(stereo("pad: 2 kernel_size: 1 max_displacement: 1 correlation_type: SUBTRACT"), SHAPES, APART),
    ]


@pytest.mark.parametrize(
    ("text", "kernel", "columns"),
    [("kernel_size: 3", 3, range(-2, 3)), ("kernel_size: 1 single_direction: -1", 1, range(-3, 0)),
     ("kernel_size: 1 single_direction: 1", 1, range(3))],
)  # fmt: skip
def test_against_loops(text, kernel, columns):
    a, b = np.random.default_rng(0).standard_normal((2, 2, 3, 5, 7))
    expected = [correlated(*pair, (0, 2), kernel, (0, 2), 1, range(1), columns) for pair in zip(a, b)]
    assert_close(top_of(stereo(f"pad: 2 max_displacement: 2 {text}"), a, b), expected, rtol=1e-9)


def test_the_direction_is_a_sign():
    with pytest.raises(LayerError, match=r"single_direction must be -1, 0 or 1, got 2"):
        top_of(stereo("kernel_size: 1 max_displacement: 1 single_direction: 2"), *map(np.zeros, SHAPES))
