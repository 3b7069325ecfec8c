"""PSROIPooling, by plain loops."""

import math

import numpy as np
import pytest

from helpers.regions import REGIONS, clip, regions
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of


def psroi(text="output_dim: 2 group_size: 2 spatial_scale: 0.5"):
    return f"type: 'PSROIPooling' psroi_pooling_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(psroi(), [(2, 8, 7, 6), (5, 5)], [normal, regions], gradient=[0]),
        Case(
            psroi("output_dim: 1 group_size: 3 spatial_scale: 0.25"),
            [(2, 9, 5, 5), (4, 5, 1, 1)],
            [normal, regions],
            gradient=[0],
        ),
    ]


def test_means():
    x = np.random.default_rng(0).standard_normal((2, 8, 7, 6))
    expected = np.zeros((5, 2, 2, 2))
    for r, d, i, j in np.ndindex(expected.shape):
        n, x1, y1, x2, y2 = REGIONS[r]
        high, wide = max((y2 + 1 - y1) * 0.5, 0.1) / 2, max((x2 + 1 - x1) * 0.5, 0.1) / 2
        rows = slice(clip(math.floor(i * high + y1 * 0.5), 7), clip(math.ceil((i + 1) * high + y1 * 0.5), 7))
        columns = slice(clip(math.floor(j * wide + x1 * 0.5), 6), clip(math.ceil((j + 1) * wide + x1 * 0.5), 6))
        window = x[int(n), (d * 2 + i) * 2 + j, rows, columns]
        expected[r, d, i, j] = window.mean() if window.size else 0
    assert_close(top_of(psroi(), x, REGIONS), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "x", "rois", "words"),
    [
        (psroi(), (2, 4, 4, 4), REGIONS, r"bottom 0 must have output_dim \* group_size\^2 = 8 channels"),
        (psroi(), (4, 4), REGIONS, r"bottom 0 must be \(N, C, H, W\), got \(4, 4\)"),
    ],
)
def test_errors_name_the_layer(text, x, rois, words):
    with pytest.raises(LayerError, match=f"^PSROIPooling layer 'layer': {words}"):
        top_of(text, np.zeros(x), rois)
