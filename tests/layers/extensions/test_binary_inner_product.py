"""BinaryInnerProduct, beyond what test_binary_convolution.py tests of both."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"
PRODUCT = f"type: 'BinaryInnerProduct' inner_product_param {{ num_output: 4 {FILLERS} }}"
ALPHA = PRODUCT + " binary_inner_product_param { use_alpha: true }"


class TestProperties(LayerProperties):
    cases = [
        Case(PRODUCT, [(2, 4, 5, 3)], params=False),
        Case(ALPHA, [(2, 4, 5, 3)], params=False),
        Case(ALPHA.replace("num_output: 4", "num_output: 4 axis: 2 bias_term: false"), [(2, 3, 5)], params=False),
    ]


def test_new_weights_are_used(engine):
    layer, bottom, top = build_layer(ALPHA, np.ones((1, 3)))
    for factor in (1, 2):
        layer.blobs[0].data[...] = factor
        layer.forward(bottom, top)
        assert_close(top[0].data, np.full((1, 4), 3 * factor + 0.3), rtol=1e-9)


def test_transpose_is_refused():
    with pytest.raises(LayerError, match="transpose must be false"):
        build_layer(PRODUCT.replace("num_output: 4", "num_output: 4 transpose: true"), np.ones((1, 3)))
