"""DummyData: shapes in both forms, fillers that run once or in every pass."""

import numpy as np
import pytest

from helpers.readers import data_layer
from minicaffe.errors import LayerError


def set_up(text, tops=1):
    layer, blobs = data_layer(f'name: "d" type: "DummyData" dummy_data_param {{ {text} }}', tops)
    layer.forward([], blobs)
    return layer, blobs


def test_constants_and_random_numbers():
    layer, (a, b) = set_up(
        'shape { dim: 2 dim: 3 } shape { dim: 50 } data_filler { type: "constant" value: 4 }'
        ' data_filler { type: "gaussian" std: 2 }', 2
    )  # fmt: skip
    assert a.shape == (2, 3) and (a.data == 4).all()
    before = b.data.copy()
    assert b.shape == (50,) and 1 < before.std() < 3
    a.data[...] = 7
    layer.forward([], [a, b])
    assert (a.data == 7).all() and not np.array_equal(b.data, before)


def test_no_filler_is_zero_and_one_shape_serves_all_tops():
    _, blobs = set_up("shape { dim: 2 }", 3)
    assert all(blob.shape == (2,) and not blob.data.any() for blob in blobs)


@pytest.mark.parametrize("tops, text, expected", [
    (1, "num: 2 channels: 3 height: 4 width: 5", [(2, 3, 4, 5)]),
    (2, "num: 2 channels: 3 height: 4 width: 5", [(2, 3, 4, 5)] * 2),
    (2, "num: 2 num: 6 channels: 3 height: 4 width: 5 width: 1", [(2, 3, 4, 5), (6, 3, 4, 1)]),
])  # fmt: skip
def test_legacy_dimensions(tops, text, expected):
    assert [blob.shape for blob in set_up(text, tops)[1]] == expected


@pytest.mark.parametrize("text, sentence", [
    ("", "must hold one shape, or one for each of 3 tops, got 0"),
    ("shape { dim: 1 } shape { dim: 1 }", "must hold one shape, or one for each of 3 tops, got 2"),
    ("shape { dim: 1 } num: 1", "takes shape, or num, channels, height and width, but not both"),
    ("num: 1 channels: 1 height: 1", "must hold one width"),
    ("shape { dim: 1 } data_filler { } data_filler { }", "must hold one data_filler, or one for each of 3 tops, got 2"),
])  # fmt: skip
def test_what_is_refused(text, sentence):
    with pytest.raises(LayerError, match=f"DummyData layer 'd': dummy_data_param {sentence}"):
        set_up(text, 3)
