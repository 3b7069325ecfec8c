"""Tile."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Tile' tile_param { tiles: 3 }", [(2, 3, 2)]),
        Case("type: 'Tile' tile_param { tiles: 2 axis: 0 }", [(2, 3)]),
        Case("type: 'Tile' tile_param { tiles: 2 axis: -1 }", [(2, 3)]),
    ]


def test_values():
    x = np.arange(12.0).reshape(2, 3, 2)
    _, _, top = run_layer("type: 'Tile' tile_param { tiles: 2 }", x)
    np.testing.assert_array_equal(top[0].data, np.tile(x, (1, 2, 1)))


def test_tiles_must_be_given():
    with pytest.raises(LayerError, match="^Tile layer 'layer': tiles must be given and at least 1, got 0"):
        run_layer("type: 'Tile'", [1.0])
