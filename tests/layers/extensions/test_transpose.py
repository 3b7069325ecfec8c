"""Transpose."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, top_of


def transpose(*dims):
    return "type: 'Transpose' transpose_param { " + " ".join(f"dim: {dim}" for dim in dims) + " }"


class TestProperties(LayerProperties):
    cases = [Case(transpose(3, 2, 0, 1), [(2, 3, 1, 4)]), Case(transpose(1, 0), [(2, 3)])]


def test_values(engine):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(top_of(transpose(3, 0, 2, 1), x, dtype=np.float32), x.transpose(3, 0, 2, 1))


@pytest.mark.parametrize("dims", [(0, 1), (0, 0, 1), (0, 1, 3)])
def test_all_axes_must_be_listed(dims):
    with pytest.raises(LayerError, match="^Transpose layer 'layer': dim must name each of the axes 0 to 2 once, got"):
        build_layer(transpose(*dims), np.zeros((2, 3, 4)))
