"""ScaleRoute, by plain loops."""

import math

import numpy as np
import pytest

from helpers.pixel_scenes import random_boxes, with_images
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer


def route(text=""):
    return f"type: 'ScaleRoute' scale_route_param {{ {text} }}"


def regions(rng, shape):
    return with_images(rng, random_boxes(rng, shape[0]), 2).reshape(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(route("low_scale: 12 high_scale: 20"), [(9, 5), (9, 2, 3)], [regions, np.random.Generator.random], (),
             num_top=2),
        Case(route("high_scale: 15"), [(9, 5, 1, 1)], regions, ()),
        Case(route("low_scale: 999"), [(9, 5)], regions, ()),
    ]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), [(None, None), (None, 15), (15, None), (12, 20), (200, 300), (None, 2)])
def test_against_a_loop(engine, low, high):
    rng = np.random.default_rng(0)
    rois = regions(rng, (12, 5))
    rois[3, 3] = rois[3, 1] - 1  # ends before it begins
    scales = [math.sqrt((x2 - x1 + 1) * (y2 - y1 + 1)) if x2 >= x1 else 0 for _, x1, y1, x2, y2 in rois]
    expected = [i for i, scale in enumerate(scales) if (low or 0) <= scale < (high or math.inf)]
    if not expected:
        middle = math.sqrt(low * high) if low and high else low or high
        expected = [min((i for i in range(12) if scales[i]), key=lambda i: abs(math.log(scales[i] / middle)))]
    text = f"{f'low_scale: {low}' if low else ''} {f'high_scale: {high}' if high else ''}"
    _, _, top = run_layer(route(text), rois, np.arange(12.0), num_top=2, dtype=np.float32)
    assert top[1].data.tolist() == expected
    np.testing.assert_array_equal(top[0].data, rois[expected].astype(np.float32))


def test_no_regions(engine):
    assert run_layer(route("low_scale: 3"), np.zeros((0, 5)), dtype=np.float32)[2][0].shape == (0, 5)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("low_scale: 9 high_scale: 3", [(2, 5)], "low_scale must be at least 0 and at most high_scale, got 9 and 3"),
        ("", [(2, 4)], r"bottom 0 must be regions \(R, 5\), got \(2, 4\)"),
        ("", [(2, 5), (3, 1)], r"bottoms must be \(R, ...\) of the same R"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^ScaleRoute layer 'layer': {words}"):
        build_layer(route(text), *map(np.zeros, shapes), num_top=len(shapes))
