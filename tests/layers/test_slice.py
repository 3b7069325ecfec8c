"""Slice."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def cut(text=""):
    return f"type: 'Slice' slice_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(cut(), [(2, 6, 2)], num_top=3),
        Case(cut("axis: 0 slice_point: 1"), [(4, 3)], num_top=2),
        Case(cut("axis: -1 slice_point: 2 slice_point: 3"), [(2, 5)], num_top=3),
        Case(cut("slice_dim: 2"), [(2, 3, 4)], num_top=2),
        Case(cut(), [(2, 3)], num_top=1),
    ]


def test_values():
    x = np.random.default_rng(0).standard_normal((2, 7, 3))
    _, _, top = run_layer(cut("slice_point: 1 slice_point: 5"), x, num_top=3)
    for blob, part in zip(top, (x[:, :1], x[:, 1:5], x[:, 5:])):
        np.testing.assert_array_equal(blob.data, part)


@pytest.mark.parametrize(
    ("text", "num_top", "sentence"),
    [
        ("", 4, "axis of length 6 cannot be cut into 4 equal tops"),
        ("slice_point: 2", 3, r"3 tops need 2 slice_point\(s\), got \[2\]"),
        ("slice_point: 3 slice_point: 3", 3, r"slice_point must increase strictly between 0 and 6, got \[3, 3\]"),
        ("slice_point: 6", 2, r"slice_point must increase strictly between 0 and 6, got \[6\]"),
        ("axis: 1 slice_dim: 1", 2, "give axis or slice_dim, not both"),
    ],
)
def test_what_is_refused(text, num_top, sentence):
    with pytest.raises(LayerError, match="^Slice layer 'layer': " + sentence):
        run_layer(cut(text), np.zeros((2, 6)), num_top=num_top)
