"""Crop."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def crop(text=""):
    return f"type: 'Crop' crop_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(crop("offset: 1"), [(2, 3, 4, 5), (1, 1, 2, 3)]),
        Case(crop("axis: 1 offset: 1 offset: 0 offset: 2"), [(2, 3, 4, 5), (2, 2, 4, 3)]),
        Case(crop("axis: -1"), [(2, 5), (7, 3)]),
    ]


def test_values():
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    _, _, top = run_layer(crop("offset: 1 offset: 2"), x, np.zeros((9, 9, 3, 2)))
    np.testing.assert_array_equal(top[0].data, x[:, :, 1:4, 2:4])


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("", [(1, 1, 4), (1, 1, 5)], r"axis 2 of bottom 0 \(1, 1, 4\) is too short for 5 numbers from 0 on"),
        ("offset: 2", [(1, 1, 4), (1, 1, 3)], r"axis 2 of bottom 0 \(1, 1, 4\) is too short for 3 numbers from 2 on"),
        (
            "axis: 1 offset: 1 offset: 1 offset: 1",
            [(1, 3, 4), (1, 1, 3)],
            "offset must be given once, or once for each of 2",
        ),
        ("", [(1, 1, 4), (1, 1, 3, 1)], "bottoms must have equally many axes"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match="^Crop layer 'layer': " + sentence):
        run_layer(crop(text), *(np.zeros(shape) for shape in shapes))
