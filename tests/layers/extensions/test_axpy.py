"""Axpy."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer, top_of


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'Axpy'", [(2, 3, 1, 1), (2, 3, 4, 2), (2, 3, 4, 2)]),
        Case("type: 'Axpy'", [(2, 3), (2, 3, 20, 10), (2, 3, 20, 10)], options={"most": 20}),
    ]


def test_values():
    rng = np.random.default_rng(0)
    a, x, y = rng.standard_normal((2, 3)), rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))
    np.testing.assert_allclose(top_of("type: 'Axpy'", a, x, y), a[:, :, None] * x + y)


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ([(2, 3), (2, 3, 4), (2, 3, 5)], "bottoms 1 and 2 must have equal shapes"),
        ([(2, 4), (2, 3, 4), (2, 3, 4)], r"bottom 0 must be \(2, 3\), one factor for each channel of bottom 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, sentence):
    with pytest.raises(LayerError, match="^Axpy layer 'layer': " + sentence):
        run_layer("type: 'Axpy'", *(np.zeros(shape) for shape in shapes))
