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
        Case("type: 'EuclideanLoss'", [(4, 3)] * 3, gradient=[0, 1]),
        Case("type: 'EuclideanLoss' loss_weight: 3", [(2, 3, 2), (2, 6), (2, 1, 6)], gradient=[0, 1]),
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


def test_weights_of_numbers(engine):
    """With naibaf7's third bottom the divisor is the number of all numbers."""
    bottoms = [[1.0, 2.0], [3.0, 4.0]], [[0.0, 4.0], [3.0, 1.0]], [[1.0, 0.5], [7.0, 0.0]]
    layer, bottom, top = run_layer("type: 'EuclideanLoss' loss_weight: 8", *bottoms, dtype=np.float32)
    assert top[0].data == (1 + 0.5 * 4) / 8
    layer.backward(top, [True, True, False], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[2, -2], [0, 0]])
    np.testing.assert_array_equal(bottom[1].diff, [[-2, 2], [0, 0]])
    with pytest.raises(LayerError, match=r"there is no gradient with respect to the weight \(bottom 2\)"):
        layer.backward(top, [True, True, True], bottom)
