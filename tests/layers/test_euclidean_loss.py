"""EuclideanLoss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'EuclideanLoss'", [(4, 3), (4, 3)]),
        Case("type: 'EuclideanLoss'", [(4, 3, 1, 1), (4, 3)]),
        Case("type: 'EuclideanLoss' loss_weight: 3", [(5,), (5,)]),
        Case("type: 'EuclideanLoss'", [(2, 3, 1, 2, 2), (2, 3, 1, 2, 2)]),
    ]


def test_values():
    layer, bottom, top = run_layer(
        "type: 'EuclideanLoss' loss_weight: 2", [[1.0, 2.0], [3.0, 4.0]], [[0.0, 4.0], [3.0, 1.0]]
    )
    assert top[0].data == (1 + 4 + 0 + 9) / 4 and layer.loss(top) == 7
    layer.backward(top, [True, True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[1, -2], [0, 3]])
    np.testing.assert_array_equal(bottom[1].diff, [[-1, 2], [0, -3]])


def test_shapes_that_differ_are_refused():
    with pytest.raises(
        LayerError, match=r"^EuclideanLoss layer 'layer': bottoms must have equal shapes, got \(2, 3\) and \(2, 4\)"
    ):
        run_layer("type: 'EuclideanLoss'", np.zeros((2, 3)), np.zeros((2, 4)))
