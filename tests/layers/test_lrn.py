"""LRN, over both regions."""

import numpy as np
import pytest

from helpers import references
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def lrn(text):
    return f"type: 'LRN' lrn_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(lrn("local_size: 3 alpha: 2 beta: 0.75 k: 2"), [(2, 5, 2, 3)]),
        Case(lrn("local_size: 5 alpha: 0.5 beta: 1.2"), [(2, 3, 2, 2)]),
        Case(lrn(""), [(1, 7, 2, 2)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2"), [(2, 3, 4, 5)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 5 alpha: 0.5 beta: 0.5"), [(1, 2, 3, 6)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 1"), [(1, 2, 3, 3)]),
    ]


def test_values():
    x = np.random.default_rng(0).standard_normal((2, 6, 3, 4))
    options = "alpha: 0.5 beta: 0.6 k: 2"
    assert_close(top_of(lrn(f"local_size: 5 {options}"), x), references.lrn(x, 5, 0.5, 0.6, 2), rtol=1e-6)
    within = references.lrn(x, 3, 0.5, 0.6, 2, within=True)
    assert_close(top_of(lrn(f"norm_region: WITHIN_CHANNEL local_size: 3 {options}"), x), within, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("local_size: 4", (1, 2, 3, 3), "local_size must be odd, got 4"),
        ("", (2, 3), r"bottom 0 must be \(N, C, H, W\), got \(2, 3\)"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^LRN layer 'layer': {words}"):
        top_of(lrn(text), np.zeros(shape))
