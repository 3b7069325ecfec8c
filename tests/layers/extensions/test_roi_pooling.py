"""ROIPooling, by plain loops."""

import math

import numpy as np
import pytest

from helpers.regions import REGIONS, clip, regions
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, top_of


def roi(text="pooled_h: 2 pooled_w: 3 spatial_scale: 0.5"):
    return f"type: 'ROIPooling' roi_pooling_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(roi(), [(2, 2, 7, 6), (5, 5)], [distinct, regions], gradient=[0]),
        Case(
            roi("pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 pad_ratio: 0.3"),
            [(2, 2, 7, 6), (5, 5)],
            [distinct, regions],
            gradient=[0],
        ),
        Case(roi("pooled_h: 1 pooled_w: 1"), [(2, 1, 16, 15), (3, 5)], [distinct, regions], gradient=[0]),
    ]


PARTS = np.array([[0, 0, 15], [1, 3, 9], [1, 40, 60], [0, 7, 7], [1, 12, 4.0]])  # (sample, first, last)
VOLUMES = "pooled_l: 2 pooled_h: 2 pooled_w: 3 temporal_scale: 0.5"


class TestVolumes(LayerProperties):
    cases = [
        Case(roi(VOLUMES), [(2, 2, 8, 3, 5), (5, 3)], [distinct, lambda rng, shape: PARTS], gradient=[0]),
        Case(
            roi("pooled_l: 1 pooled_h: 4 pooled_w: 4 temporal_scale: 0.125"),
            [(2, 1, 4, 7, 7), (5, 3, 1, 1)],
            [distinct, lambda rng, shape: PARTS.reshape(5, 3, 1, 1)],
            gradient=[0],
        ),
    ]


def test_maxima_of_parts_of_volumes(engine):
    x = np.random.default_rng(0).standard_normal((2, 2, 8, 3, 5))
    expected = np.zeros((5, 2, 2, 2, 3))
    for r, c, i, j, k in np.ndindex(expected.shape):
        n, *ends = PARTS[r]
        first, last = (math.floor(end * 0.5 + 0.5) for end in ends)
        long = max(last - first + 1, 1) / 2
        planes = slice(clip(math.floor(i * long) + first, 8), clip(math.ceil((i + 1) * long) + first, 8))
        rows, columns = slice((0, 1)[j], (2, 3)[j]), slice((0, 1, 3)[k], (2, 4, 5)[k])
        expected[r, c, i, j, k] = x[int(n), c, planes, rows, columns].max(initial=-np.inf)
    expected[np.isinf(expected)] = 0
    assert_close(top_of(roi(VOLUMES), x, PARTS, dtype=np.float32), expected, rtol=1e-6)


@pytest.mark.parametrize("pad_ratio", [0, 0.25, 0.7])
def test_maxima(engine, pad_ratio):
    x = np.random.default_rng(0).standard_normal((2, 2, 7, 6))
    expected = np.zeros((5, 2, 2, 3))
    for r, c, i, j in np.ndindex(expected.shape):
        n, *corners = REGIONS[r]
        wide, high = ((corners[k + 2] - corners[k] + 1) * pad_ratio for k in range(2))
        corners += np.array([-wide, -high, wide, high])
        x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(v * 0.5) + 0.5), v)) for v in corners)
        high, wide = max(y2 - y1 + 1, 1) / 2, max(x2 - x1 + 1, 1) / 3
        rows = slice(clip(math.floor(i * high) + y1, 7), clip(math.ceil((i + 1) * high) + y1, 7))
        columns = slice(clip(math.floor(j * wide) + x1, 6), clip(math.ceil((j + 1) * wide) + x1, 6))
        expected[r, c, i, j] = x[int(n), c, rows, columns].max(initial=-np.inf)
    expected[np.isinf(expected)] = 0
    text = f"pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 pad_ratio: {pad_ratio}"
    assert_close(top_of(roi(text), x, REGIONS, dtype=np.float32), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "x", "rois", "words"),
    [
        (roi(), (1, 1, 4, 4), REGIONS, "region 1 is of sample 1, but bottom 0 has 1 samples"),
        (roi(), (1, 1, 4, 4), np.zeros((2, 4)), r"bottom 1 must be regions \(R, 5\), got \(2, 4\)"),
        (roi(VOLUMES), (1, 1, 4, 4), REGIONS, r"with pooled_l bottoms must be \(N, C, L, H, W\) and regions \(R, 3\)"),
        (roi(VOLUMES), (1, 1, 4, 4, 4), PARTS, "region 1 is of sample 1, but bottom 0 has 1 samples"),
        (roi(f"{VOLUMES} pad_ratio: .2"), (1, 1, 4, 4, 4), PARTS, "pad_ratio is for pictures, not for volumes"),
        (roi("pooled_l: 1 pooled_h: 2"), (1, 1, 4, 4, 4), PARTS, "pooled_l, pooled_h and pooled_w must be at least 1"),
        (roi("pooled_h: 2"), (1, 1, 4, 4), REGIONS, "pooled_h and pooled_w must be at least 1"),
    ],
)
def test_errors_name_the_layer(text, x, rois, words):
    with pytest.raises(LayerError, match=f"^ROIPooling layer 'layer': {words}"):
        top_of(text, np.zeros(x), rois)
