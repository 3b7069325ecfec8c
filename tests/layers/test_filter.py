"""Filter."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Filter'", [(6, 2, 3), (6,)], [normal, labels(2)], gradient=[0]),
        Case("type: 'Filter'", [(5, 2), (5,), (5, 1, 1)], [normal, normal, labels(2)], gradient=[0, 1], num_top=2),
    ]


def test_values_and_gradient(engine):
    x = np.arange(8.0).reshape(4, 2)
    layer, bottom, top = run_layer("type: 'Filter'", x, [0.0, 1.0, 0.0, 2.0], dtype=np.float32)
    np.testing.assert_array_equal(top[0].data, x[[1, 3]])
    top[0].diff[...] = [[1, 2], [3, 4]]
    layer.backward(top, [True, False], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[0, 0], [1, 2], [0, 0], [3, 4]])


def test_nothing_kept_leaves_an_empty_top(engine):
    layer, bottom, top = run_layer("type: 'Filter'", np.ones((3, 2)), np.zeros(3), dtype=np.float32)
    assert top[0].shape == (0, 2)
    layer.backward(top, [True, False], bottom)
    assert (bottom[0].diff == 0).all()
    bottom[1].data[...] = 1
    layer.forward(bottom, top)
    assert top[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("shapes", "num_top", "sentence"),
    [
        ([(3, 2), (3,)], 2, "2 bottoms need 1 tops, got 2"),
        ([(3, 2), (3, 2)], 1, r"the selector must hold one number for each item, got \(3, 2\)"),
        ([(3, 2), ()], 1, r"the selector must hold one number for each item, got \(\)"),
        ([(4, 2), (3,)], 1, r"bottom 0 must hold 3 items, as many as the selector, got \(4, 2\)"),
    ],
)
def test_what_is_refused(shapes, num_top, sentence):
    with pytest.raises(LayerError, match="^Filter layer 'layer': " + sentence):
        run_layer("type: 'Filter'", *(np.zeros(shape) for shape in shapes), num_top=num_top)


def test_the_selector_gets_no_gradient():
    layer, bottom, top = run_layer("type: 'Filter'", np.ones((3, 2)), np.ones(3))
    with pytest.raises(LayerError, match=r"no gradient with respect to the selector \(bottom 1\)"):
        layer.backward(top, [True, True], bottom)
