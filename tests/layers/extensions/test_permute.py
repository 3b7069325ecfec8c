"""Permute."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer, top_of


def permute(*order):
    return "type: 'Permute' permute_param { " + " ".join(f"order: {axis}" for axis in order) + " }"


class TestProperties(LayerProperties):
    cases = [Case(permute(0, 2, 3, 1), [(2, 3, 4, 2)]), Case(permute(1), [(2, 3, 2)]), Case(permute(), [(2, 3)])]


@pytest.mark.parametrize(("order", "axes"), [((0, 2, 3, 1), (0, 2, 3, 1)), ((3,), (3, 0, 1, 2)), ((), (0, 1, 2, 3))])
def test_values(order, axes):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(top_of(permute(*order), x), x.transpose(axes))


@pytest.mark.parametrize("order", [(0, 0), (4,)])
def test_wrong_orders_are_refused(order):
    with pytest.raises(LayerError, match="^Permute layer 'layer': order must name different axes below 4, got"):
        run_layer(permute(*order), np.zeros((2, 3, 4, 5)))
