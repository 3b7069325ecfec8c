"""Input: shapes from the prototxt, or from the caller."""

import pytest

from helpers.readers import data_layer
from minicaffe.errors import LayerError


def set_up(text, tops):
    return data_layer(f'name: "in" type: "Input" {text}', tops)


@pytest.mark.parametrize(
    "shapes, expected",
    [([], [(), ()]), ([(2, 3)], [(2, 3), (2, 3)]), ([(2, 3), (4,)], [(2, 3), (4,)])],
)
def test_no_shape_one_or_one_for_each_top(shapes, expected):
    text = " ".join(f"shape {{ {' '.join(f'dim: {d}' for d in shape)} }}" for shape in shapes)
    layer, blobs = set_up(f"input_param {{ {text} }}", 2)
    assert [blob.shape for blob in blobs] == expected


def test_data_and_shape_are_the_callers():
    layer, (blob,) = set_up("input_param { shape { dim: 2 dim: 3 } }", 1)
    blob.data[...] = 5
    layer.forward([], [blob])
    assert (blob.data == 5).all()
    blob.reshape(4, 3)
    layer.forward([], [blob])
    assert blob.shape == (4, 3)


def test_the_wrong_number_of_shapes():
    with pytest.raises(
        LayerError, match="Input layer 'in': needs no shape, one shape, or one per top: 3 top.s., got 2 shapes"
    ):
        set_up("input_param { shape { dim: 1 } shape { dim: 2 } }", 3)
