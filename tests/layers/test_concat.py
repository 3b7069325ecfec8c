"""Concat."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def concat(text=""):
    return f"type: 'Concat' concat_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(concat(), [(2, 3, 2), (2, 1, 2), (2, 2, 2)]),
        Case(concat("axis: 0"), [(2, 3), (1, 3)]),
        Case(concat("axis: -1"), [(2, 3, 1), (2, 3, 4)]),
        Case(concat("concat_dim: 0"), [(2, 3), (4, 3)]),
        Case(concat(), [(2, 3)]),
    ]


def test_values():
    a, b = np.random.default_rng(0).standard_normal((2, 2, 3, 2))
    _, _, top = run_layer(concat(), a, b)
    np.testing.assert_array_equal(top[0].data, np.concatenate([a, b], axis=1))


def test_one_bottom_shares_its_memory():
    _, bottom, top = run_layer(concat(), np.zeros((2, 3)))
    bottom[0].data[...] = 5
    assert (top[0].data == 5).all()


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("", [(2, 3), (3, 3)], r"bottom 1 must agree with bottom 0 \(2, 3\) in all axes but 1, got \(3, 3\)"),
        ("", [(2, 3), (2, 3, 1)], r"bottom 1 must agree with bottom 0 \(2, 3\) in all axes but 1, got \(2, 3, 1\)"),
        ("axis: 1 concat_dim: 1", [(2, 3)], "give axis or concat_dim, not both"),
        ("axis: 2", [(2, 3)], "axis 2 is out of range for a blob of 2 axes"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match="^Concat layer 'layer': " + sentence):
        run_layer(concat(text), *(np.zeros(shape) for shape in shapes))
