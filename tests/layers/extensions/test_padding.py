"""Padding."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, top_of


def padding(text):
    return f"type: 'Padding' padding_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(padding("pad_beg: 1 pad_end: 2"), [(2, 3, 2, 4)]),
        Case(padding("pad_beg: -1 pad_end: -2"), [(2, 3, 4, 5)]),
        Case(padding(""), [(1, 2, 3, 4)]),
        Case(padding("pad_end: -1"), [(1, 2, 3, 4)]),
    ]


def test_a_border_is_added_or_removed(engine):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    y = top_of(padding("pad_beg: 2 pad_end: 1"), x, dtype=np.float32)
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (2, 1), (2, 1))))
    np.testing.assert_array_equal(top_of(padding("pad_beg: -2 pad_end: -1"), y, dtype=np.float32), x)


@pytest.mark.parametrize(("text", "shape", "words"), [
    ("pad_beg: 1 pad_end: -1", (1, 1, 3, 3), "pad_beg and pad_end must not differ in sign, got 1 and -1"),
    ("pad_beg: -2 pad_end: -1", (1, 1, 3, 4), r"leave nothing of bottom 0 of shape \(1, 1, 3, 4\)"),
    ("pad_beg: 1", (3, 3), r"bottom 0 must be \(N, C, H, W\), got \(3, 3\)"),
])  # fmt: skip
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^Padding layer 'layer': .*{words}"):
        top_of(padding(text), np.zeros(shape))
