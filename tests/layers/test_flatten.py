"""Flatten."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def flatten(text=""):
    return f"type: 'Flatten' flatten_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [Case(flatten(), [(2, 3, 4)]), Case(flatten("axis: 0 end_axis: 1"), [(2, 3, 4)])]


@pytest.mark.parametrize(
    ("text", "shape"),
    [("", (2, 60)), ("axis: 0", (120,)), ("axis: 1 end_axis: 2", (2, 12, 5)), ("axis: -3 end_axis: -2", (2, 12, 5))],
)
def test_shapes(text, shape):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    _, _, top = run_layer(flatten(text), x)
    np.testing.assert_array_equal(top[0].data, x.reshape(shape))


def test_axes_the_wrong_way_round_are_refused():
    with pytest.raises(
        LayerError, match=r"^Flatten layer 'layer': end_axis 1 lies before axis 2 in bottom 0 \(2, 3, 4\)"
    ):
        run_layer(flatten("axis: 2 end_axis: 1"), np.zeros((2, 3, 4)))
