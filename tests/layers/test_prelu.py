"""PReLU."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, distinct, run_layer


class TestProperties(LayerProperties):
    cases = [
        Case("type: 'PReLU'", [(2, 3, 4, 2)], distinct),
        Case("type: 'PReLU' prelu_param { channel_shared: true }", [(2, 3, 4)], distinct),
        Case("type: 'PReLU' prelu_param { filler { value: 0.1 } }", [(4, 5)], distinct),
    ]


def test_values_and_default_slope():
    layer, _, top = run_layer("type: 'PReLU'", [[-4.0, 2.0], [0.0, -1.0]])
    np.testing.assert_array_equal(layer.blobs[0].data, [0.25, 0.25])
    np.testing.assert_array_equal(top[0].data, [[-1, 2], [0, -0.25]])
    assert run_layer("type: 'PReLU' prelu_param { channel_shared: true }", [[1.0]])[0].blobs[0].shape == ()


def test_a_vector_is_refused():
    with pytest.raises(LayerError, match=r"^PReLU layer 'layer': bottom 0 must be \(N, C, ...\), got \(3,\)"):
        run_layer("type: 'PReLU'", np.zeros(3))
