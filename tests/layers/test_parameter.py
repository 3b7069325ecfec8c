"""Parameter."""

import numpy as np

from minicaffe.testing import Case, LayerProperties, run_layer

PARAMETER = "type: 'Parameter' parameter_param { shape { dim: 2 dim: 3 } }"


class TestProperties(LayerProperties):
    cases = [Case(PARAMETER, [])]


def test_the_top_is_the_learned_blob():
    layer, bottom, top = run_layer(PARAMETER)
    layer.blobs[0].data[...] = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(top[0].data, [[1, 2, 3], [4, 5, 6]])
    assert top[0].shape == (2, 3)


def test_the_first_values_may_be_filled():
    text = "type: 'Parameter' parameter_param { shape { dim: 2 } blob_filler { type: 'constant' value: 3 } }"
    assert run_layer(text)[2][0].data.tolist() == [3, 3]
