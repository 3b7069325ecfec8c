"""Reverse."""

import numpy as np
import pytest

from minicaffe.errors import BlobError, LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer, top_of


def reverse(axis):
    return f"type: 'Reverse' reverse_param {{ axis: {axis} }}"


class TestProperties(LayerProperties):
    cases = [Case(reverse(0), [(3, 2, 2)]), Case(reverse(1), [(2, 3, 2)]), Case(reverse(-1), [(2, 1, 4)])]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_values(engine, axis):
    x = np.arange(24.0).reshape(2, 3, 4)
    layer, bottom, top = run_layer(reverse(axis), x, dtype=np.float32)
    np.testing.assert_array_equal(top[0].data, np.flip(x, axis))
    top[0].diff[...] = x
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, np.flip(x, axis))


def test_the_default_is_the_first_axis():
    np.testing.assert_array_equal(top_of("type: 'Reverse'", [[1.0, 2.0], [3.0, 4.0]]), [[3, 4], [1, 2]])


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises((BlobError, LayerError), match="layer 'layer': axis 2 is out of range for a blob of 2 axes"):
        build_layer(reverse(2), np.zeros((2, 3)))
