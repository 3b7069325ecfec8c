"""BatchReindex."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'BatchReindex'", [(4, 2, 3), (7,)], [normal, labels(4)], gradient=[0]),
        Case("type: 'BatchReindex'", [(4, 2), (2,)], [normal, labels(4)], gradient=[0]),
    ]


def test_values_and_gradient(engine):
    x = np.arange(6.0).reshape(3, 2)
    layer, bottom, top = run_layer("type: 'BatchReindex'", x, [2.0, 0.0, 2.0], dtype=np.float32)
    np.testing.assert_array_equal(top[0].data, x[[2, 0, 2]])
    top[0].diff[...] = [[1, 2], [3, 4], [10, 20]]
    layer.backward(top, [True, False], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[3, 4], [0, 0], [11, 22]])


def test_an_index_out_of_range_is_named():
    with pytest.raises(
        LayerError, match="^BatchReindex layer 'layer': index 3 is out of range: there are 3 rows, 0 to 2"
    ):
        run_layer("type: 'BatchReindex'", np.zeros((3, 2)), [0.0, 3.0])


def test_a_matrix_of_indices_is_refused():
    with pytest.raises(LayerError, match=r"bottoms must be \(N, ...\) and \(M,\), got \(3, 2\) and \(3, 2\)"):
        run_layer("type: 'BatchReindex'", np.zeros((3, 2)), np.zeros((3, 2)))
