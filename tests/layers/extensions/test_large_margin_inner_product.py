"""LargeMarginInnerProduct, beyond what test_margin_inner_product.py tests of both."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, labels, normal, run_layer

FILLER = "weight_filler { type: 'gaussian' std: 1 }"


def large(text):
    return f"type: 'LargeMarginInnerProduct' largemargin_inner_product_param {{ {FILLER} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        *(
            Case(large(f"num_output: 4 type: {kind} base: 0.7"), [(6, 5), (6,)], [normal, labels(4)], gradient=[0])
            for kind in ("SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE")
        ),
        Case(
            large("num_output: 3 type: DOUBLE axis: 2"),
            [(2, 2, 3, 2), (4,)],
            [normal, labels(3)],
            gradient=[0],
            num_top=2,
        ),
    ]


def test_the_weights_keep_their_lengths(engine):
    layer, bottom, top = build_layer(large("num_output: 2 type: DOUBLE base: 0"), [[3.0, 4]], [1.0], dtype=np.float32)
    layer.blobs[0].data[...] = w = [[2, 0], [0, 10]]
    layer.forward(bottom, top)
    assert_close(layer.blobs[0].data, w)
    assert_close(top[0].data, [[6, 5 * 10 * (2 * 0.8**2 - 1)]])


def test_there_must_be_classes():
    with pytest.raises(LayerError, match="num_output, the number of classes, must be at least 1"):
        run_layer(large(""), np.zeros((2, 3)), np.zeros(2))
