"""ROIPooling, by plain loops."""

import math

import numpy as np
import pytest

from minicaffe import gradient_check
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct

REGIONS = np.array([[0, 0, 0, 7, 7], [1, 2, 1, 9, 12], [1, 5, 5, 5, 5], [0, 20, 20, 30, 30], [1, 3, 0, 14, 4.0]])


def regions(rng, shape):
    return REGIONS[: shape[0]]


def roi(text="pooled_h: 2 pooled_w: 3 spatial_scale: 0.5"):
    return f"type: 'ROIPooling' roi_pooling_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(roi(), [(2, 2, 7, 6), (5, 5)], [distinct, regions], gradient=[0]),
        Case(roi("pooled_h: 1 pooled_w: 1"), [(2, 1, 16, 15), (3, 5)], [distinct, regions], gradient=[0]),
    ]


def run(text, x, rois):
    layer = gradient_check.layer_from_text(text, 0, np.float64)
    bottom, top = gradient_check.blobs_of([x, rois], np.float64), gradient_check.blobs_of([0], np.float64)
    layer.initialize(bottom, top)
    layer.forward(bottom, top)
    return top[0].data


def clip(value, size):
    return min(max(value, 0), size)


def test_maxima():
    x = np.random.default_rng(0).standard_normal((2, 2, 7, 6))
    expected = np.zeros((5, 2, 2, 3))
    for r, c, i, j in np.ndindex(expected.shape):
        n, *corners = REGIONS[r]
        x1, y1, x2, y2 = (math.floor(v * 0.5 + 0.5) for v in corners)
        high, wide = max(y2 - y1 + 1, 1) / 2, max(x2 - x1 + 1, 1) / 3
        rows = slice(clip(math.floor(i * high) + y1, 7), clip(math.ceil((i + 1) * high) + y1, 7))
        columns = slice(clip(math.floor(j * wide) + x1, 6), clip(math.ceil((j + 1) * wide) + x1, 6))
        expected[r, c, i, j] = x[int(n), c, rows, columns].max(initial=-np.inf)
    expected[np.isinf(expected)] = 0
    assert_close(run(roi(), x, REGIONS), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "x", "rois", "words"),
    [
        (roi(), (1, 1, 4, 4), REGIONS, "region 1 is of sample 1, but bottom 0 has 1 samples"),
        (roi(), (1, 1, 4, 4), np.zeros((2, 4)), r"bottom 1 must be regions \(R, 5\), got \(2, 4\)"),
        (roi("pooled_h: 2"), (1, 1, 4, 4), REGIONS, "pooled_h and pooled_w must be at least 1"),
    ],
)
def test_errors_name_the_layer(text, x, rois, words):
    with pytest.raises(LayerError, match=f"^ROIPooling layer 'layer': {words}"):
        run(text, np.zeros(x), rois)
