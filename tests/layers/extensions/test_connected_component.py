"""ConnectedComponent, by flooding."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, top_of


class TestProperties(LayerProperties):
    cases = [Case("type: 'ConnectedComponent'", [(2, 2, 5, 6)], labels(3), gradient=())]


def flooded(labels):
    """The numbers of the regions of a map (H, W)."""
    numbers, last = np.zeros(labels.shape), labels.max()
    for start in np.ndindex(labels.shape):
        if labels[start] and not numbers[start]:
            last, border = last + 1, [start]
            while border:
                i, j = border.pop()
                if 0 <= i < len(labels) and 0 <= j < labels.shape[1] and labels[i, j] == labels[start]:
                    if not numbers[i, j]:
                        numbers[i, j] = last
                        border += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    return numbers


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_random_maps_against_flooding(count):
    x = np.random.default_rng(count).integers(0, count, (2, 3, 23, 17)).astype(float)
    y = top_of("type: 'ConnectedComponent'", x)
    for n, c in np.ndindex(2, 3):
        np.testing.assert_array_equal(y[n, c], flooded(x[n, c]))


def test_a_spiral_is_one_region():
    x = np.ones((15, 15))
    for ring in range(1, 7, 2):
        x[ring, ring : 15 - ring] = x[14 - ring, ring : 15 - ring] = 0
        x[ring : 15 - ring, ring] = x[ring : 15 - ring, 14 - ring] = 0
        x[ring + 1, ring] = 1
    y = top_of("type: 'ConnectedComponent'", x[None, None])[0, 0]
    np.testing.assert_array_equal(y, flooded(x))
    assert set(np.unique(y)) == {0, 2}


@pytest.mark.parametrize("shape", [(0, 1, 3, 3), (1, 1, 0, 3), (1, 1, 1, 1)])
def test_small_maps(shape):
    assert (top_of("type: 'ConnectedComponent'", np.ones(shape)) == 2).all()


def test_errors_name_the_layer():
    with pytest.raises(LayerError, match=r"^ConnectedComponent layer 'layer': bottom 0 must be \(N, C, H, W\), got"):
        top_of("type: 'ConnectedComponent'", np.ones((2, 3)))
