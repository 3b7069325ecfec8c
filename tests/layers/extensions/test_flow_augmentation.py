"""FlowAugmentation."""

import numpy as np
import pytest

from helpers.augmented import augmentation, rows_of
from minicaffe.errors import LayerError
from minicaffe.layers.shared.augmentation import DEFAULTS, matrix
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of

ROW = (1, 42, 1, 1)


def small(rng, shape):
    """Coefficients near those that change nothing."""
    return 0.1 * rng.standard_normal(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(
            augmentation("crop_width: 6 crop_height: 5", "FlowAugmentation"), [(1, 2, 9, 10), ROW, ROW],
            [normal, small, small], gradient=(),
        )
    ]  # fmt: skip


def test_flow_between_moved_pictures():
    """What is at p in the first crop is at p + y(p) in the second."""
    rng = np.random.default_rng(0)
    flow = rng.standard_normal((2, 2, 9, 10))
    flow[0, :, 0, 0] = np.nan
    first = {"dx": 0.1, "angle": 0.2, "zoom_x": 1.3}, {"mirror": 1}
    second = {"dy": 0.1, "angle": -0.3, "zoom_y": 1.2}, {"mirror": 1, "zoom_x": 2}
    text = augmentation("crop_width: 6 crop_height: 5", "FlowAugmentation")
    y = top_of(text, flow, rows_of(*first), rows_of(*second))
    for n, i, j in np.ndindex(2, 5, 6):
        q = matrix(DEFAULTS | first[n], (9, 10), (5, 6)) @ [j, i, 1]
        w, h = (int(min(max(np.floor(p + 0.5), 0), size - 1)) for p, size in zip(q, (10, 9)))
        there = matrix(DEFAULTS | second[n], (9, 10), (5, 6)) @ [j + y[n, 0, i, j], i + y[n, 1, i, j], 1]
        assert_close(there, q + flow[n, :, h, w])


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("", [(1, 2, 4, 5), ROW, ROW], "crop_height and crop_width must be above 0"),
        ("crop_width: 2 crop_height: 2", [(1, 3, 4, 5), ROW, ROW], r"bottom 0 must be \(N, 2, H, W\)"),
        (
            "crop_width: 2 crop_height: 2",
            [(1, 2, 4, 5), ROW, (1, 9)],
            r"bottom 2 must be coefficients \(1, 42, 1, 1\), got \(1, 9\)",
        ),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^FlowAugmentation layer 'layer': {words}"):
        top_of(augmentation(text, "FlowAugmentation"), *map(np.zeros, shapes))
