"""Interp."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def interp(text):
    return f"type: 'Interp' interp_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(interp("height: 5 width: 7"), [(2, 2, 3, 4)]),
        Case(interp("height: 1 width: 2"), [(1, 2, 3, 4)]),
        Case(interp("zoom_factor: 2"), [(1, 2, 3, 4)]),
        Case(interp("shrink_factor: 2"), [(1, 2, 5, 6)]),
        Case(interp("shrink_factor: 2 zoom_factor: 3 pad_beg: -1 pad_end: -1"), [(2, 1, 6, 7)]),
        Case(interp("height: 4 width: 4"), [(1, 2, 1, 1)]),
        Case(interp("height: 5 width: 7"), [(3,)]),
        Case(interp("height: 5 width: 7"), [(3, 2, 4)]),
        Case(interp("use_blob_size: true"), [(1, 2, 3, 4), (1, 1, 5, 7)], gradient=[0]),
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("height: 9 width: 4", (9, 4)),
        ("zoom_factor: 4", (13, 17)),
        ("shrink_factor: 2", (2, 3)),
        ("shrink_factor: 2 zoom_factor: 2", (3, 5)),
        ("shrink_factor: 2 zoom_factor: 2 height: 6 width: 7", (6, 7)),
        ("zoom_factor: 2 height: 6 width: 7", (7, 9)),
    ],
)
def test_a_plane_stays_a_plane(text, size):
    rows, columns = np.indices((4, 5))
    y = top_of(interp(text), (3 * rows + 7 * columns)[None, None].astype(float))[0, 0]
    assert y.shape == size
    assert_close(y, 3 * np.linspace(0, 3, size[0])[:, None] + 7 * np.linspace(0, 4, size[1]), rtol=1e-9)


def test_the_size_of_another_blob():
    x, like = np.random.default_rng(0).standard_normal((1, 2, 3, 4)), np.zeros((2, 1, 6, 5))
    expected = top_of(interp("height: 6 width: 5"), x)
    np.testing.assert_array_equal(top_of(interp("use_blob_size: true"), x, like), expected)
    for text, bottoms in (("use_blob_size: true", [x]), ("zoom_factor: 2", [x, like])):
        with pytest.raises(LayerError, match="use_blob_size must be given with two bottoms, and only then"):
            top_of(interp(text), *bottoms)


def test_cropping():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7))
    assert_close(top_of(interp("pad_beg: -1 pad_end: -2 zoom_factor: 1"), x), x[:, :, 1:-2, 1:-2], rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("", (1, 1, 3, 3), "height and width, zoom_factor or shrink_factor must be given"),
        ("zoom_factor: 2 pad_beg: 1", (1, 1, 3, 3), "must not be positive, got 1 and 0"),
        ("zoom_factor: 2 pad_beg: -3", (1, 1, 3, 3), "leave nothing of bottom 0"),
        ("zoom_factor: 0", (1, 1, 3, 3), "must be at least 1"),
        ("zoom_factor: 2", (3, 3, 3, 3, 3), r"bottom 0 must be \(N, C, H, W\), got \(3, 3, 3, 3, 3\)"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^Interp layer 'layer': .*{words}"):
        top_of(interp(text), np.zeros(shape))


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_missing_axes_have_length_1(shape):
    """A label for each picture, as MemoryData gives, is a map of one place: in TEST nets of PSPNet."""
    x = np.random.default_rng(2).normal(size=shape)
    text = interp("height: 5 width: 7")
    np.testing.assert_array_equal(top_of(text, x), top_of(text, x.reshape((*shape, 1, 1, 1)[:4])))
