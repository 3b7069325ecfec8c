"""MaskPooling."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, top_of


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'MaskPooling'", [(2, 3, 4, 5), (2, 1, 4, 5)]),
        Case("type: 'MaskPooling'", [(3, 1, 1, 2), (3, 1, 1, 2)]),
    ]


def test_values(engine):
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((2, 3, 4, 5)), rng.integers(0, 2, (2, 1, 4, 5))
    y = top_of("type: 'MaskPooling'", x, mask, dtype=np.float32)
    np.testing.assert_array_equal(y, (x * mask).astype(np.float32))


@pytest.mark.parametrize("mask", [(2, 1, 4, 4), (1, 1, 4, 5), (2, 3, 4, 5), (2, 4, 5)])
def test_shapes_that_do_not_fit_are_refused(mask):
    with pytest.raises(LayerError, match=r"^MaskPooling layer 'layer': bottoms must be \(N, C, H, W\) and a mask"):
        top_of("type: 'MaskPooling'", np.zeros((2, 3, 4, 5)), np.zeros(mask))
