"""Accum."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, run_layer, top_of


def accum(text):
    return f"type: 'Accum' accum_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(accum("size_divisible_by: 4"), [(2, 3, 3, 5), (2, 1, 2, 2)]),
        Case(accum("have_reference: true"), [(2, 1, 3, 5), (2, 2, 4, 1), (2, 1, 4, 6)], gradient=[0, 1]),
    ]


@pytest.mark.parametrize(
    ("text", "shapes", "size"),
    [
        ("", [(3, 5), (4, 2)], (4, 5)),
        ("top_height: 6 top_width: 7", [(3, 5), (4, 2)], (6, 7)),
        ("top_height: 6 top_width: 5", [(3, 5), (4, 2)], (4, 5)),
        ("size_divisible_by: 4", [(3, 5), (4, 2)], (4, 8)),
        ("have_reference: true", [(3, 5), (4, 2), (2, 3)], (2, 3)),
    ],
)
def test_a_plane_stays_a_plane(text, shapes, size, engine):
    """Whose corners have the same values at every size."""
    bottoms = []
    for i, (height, width) in enumerate(shapes):
        plane = np.linspace(0, 3, height)[:, None] + np.linspace(0, 7, width)
        bottoms.append(np.stack([plane + i, 2 * plane])[None])
    joined = shapes[:-1] if "reference" in text else shapes
    y = top_of(accum(text), *bottoms, dtype=np.float32)
    plane = np.linspace(0, 3, size[0])[:, None] + np.linspace(0, 7, size[1])
    assert_close(y, np.stack([each for i in range(len(joined)) for each in (plane + i, 2 * plane)])[None])


def test_the_reference_has_no_gradient(engine):
    x = np.ones((1, 1, 2, 2))
    layer, bottom, top = run_layer(accum("have_reference: true"), x, x, dtype=np.float32)
    top[0].diff[...], bottom[1].diff[...] = 3, 5
    layer.backward(top, [True, True], bottom)
    assert [blob.diff.ravel().tolist() for blob in bottom] == [[3] * 4, [0] * 4]


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("have_reference: true", [(1, 1, 2, 2)], "have_reference needs at least two bottoms, got 1"),
        ("", [(1, 1, 2, 2), (2, 1, 2, 2)], r"bottom 1 must be \(N, C, H, W\) with N 1, got \(2, 1, 2, 2\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Accum layer 'layer': {words}"):
        top_of(accum(text), *map(np.zeros, shapes))
