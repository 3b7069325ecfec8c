"""Flip."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def flip(text):
    return f"type: 'Flip' flip_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Flip'", [(2, 2, 3, 4)]),
        Case(flip("flip_height: true"), [(2, 2, 3, 4)]),
        Case(flip("flip_width: false flip_height: true"), [(2, 2, 3, 1)]),
        Case(flip("flip_width: false"), [(1, 2, 3, 2)]),
    ]


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [("", 1, -1), ("flip_height: true", -1, -1), ("flip_height: true flip_width: false", -1, 1)],
)
def test_values(text, rows, columns, engine):
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    layer, bottom, top = run_layer(flip(text), x, dtype=np.float32)
    np.testing.assert_array_equal(top[0].data, x[:, :, ::rows, ::columns])
    top[0].diff[...] = x
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, x[:, :, ::rows, ::columns])


def test_a_map_has_four_axes():
    with pytest.raises(LayerError, match=r"^Flip layer 'layer': bottom 0 must be \(N, C, H, W\), got 2 axes"):
        run_layer("type: 'Flip'", np.zeros((2, 3)))
