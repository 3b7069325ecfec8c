"""ROIAlign, by plain loops."""

import math

import numpy as np
import pytest

from helpers.regions import REGIONS, regions
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, run_layer, top_of


def mask_rcnn(text="pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 sampling_ratio: 2"):
    return f"type: 'ROIAlign' roi_align_param {{ {text} }}"


def ms_cnn(text="pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 pad_ratio: 0.25"):
    return f"type: 'ROIAlign' roi_pooling_param {{ {text} }}"


def case(text):
    return Case(text, [(2, 2, 7, 6), (5, 5)], [normal, regions], gradient=[0])


class TestProperties(LayerProperties):
    cases = [
        case(mask_rcnn()),
        case(mask_rcnn("pooled_h: 3 pooled_w: 2 spatial_scale: 0.75 roi_end_mode: 1")),
        case(ms_cnn()),
        case(ms_cnn("pooled_h: 1 pooled_w: 1")),
        Case(ms_cnn(), [(2, 1, 1, 1), (4, 5, 1, 1)], [normal, regions], gradient=[0]),
    ]


def bilinear(picture, y, x, outside):
    """The value of picture (H, W) at a point, 0 more than `outside` beyond its places."""
    height, width = picture.shape
    if not (-outside <= y <= height - 1 + outside and -outside <= x <= width - 1 + outside):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    above = picture[top, left] * (1 - (x - left)) + picture[top, right] * (x - left)
    below = picture[bottom, left] * (1 - (x - left)) + picture[bottom, right] * (x - left)
    return above * (1 - (y - top)) + below * (y - top)


def means_of_points(x, rois, pooled, scale, ratio, end):
    y = np.zeros((len(rois), x.shape[1], *pooled))
    for r, c, i, j in np.ndindex(y.shape):
        n, x1, y1, x2, y2 = rois[r]
        high = max((y2 + end) * scale - y1 * scale, 1) / pooled[0]
        wide = max((x2 + end) * scale - x1 * scale, 1) / pooled[1]
        rows, columns = (ratio if ratio > 0 else math.ceil(size) for size in (high, wide))
        for k, m in np.ndindex(rows, columns):
            at = y1 * scale + (i + (k + 0.5) / rows) * high, x1 * scale + (j + (m + 0.5) / columns) * wide
            y[r, c, i, j] += bilinear(x[int(n), c], *at, 1) / (rows * columns)
    return y


def corners_of_bins(x, rois, pooled, scale, pad_ratio):
    y = np.zeros((len(rois), x.shape[1], pooled[0] + 1, pooled[1] + 1))
    for r, c, i, j in np.ndindex(y.shape):
        n, x1, y1, x2, y2 = rois[r]
        pad_w, pad_h = (x2 - x1 + 1) * pad_ratio, (y2 - y1 + 1) * pad_ratio
        left, top = (x1 - pad_w) * scale - 0.5, (y1 - pad_h) * scale - 0.5
        wide, high = (x2 + pad_w) * scale - 0.5 - left, (y2 + pad_h) * scale - 0.5 - top
        if wide > 0 and high > 0:
            y[r, c, i, j] = bilinear(x[int(n), c], top + i * high / pooled[0], left + j * wide / pooled[1], 0.5)
    return y


def scene(seed):
    """Random feature maps and regions across their edges, some turned around."""
    rng = np.random.default_rng(seed)
    n, c, height, width = (int(v) for v in rng.integers(1, [4, 4, 9, 9]))
    pooled = tuple(int(v) for v in rng.integers(1, 5, 2))
    corners = rng.uniform(-6, 2 * max(height, width) + 6, (6, 4))
    corners[:4] = np.concatenate([corners[:4, :2], corners[:4, :2] + rng.uniform(0, 15, (4, 2))], 1)
    rois = np.concatenate([rng.integers(0, n, (6, 1)), corners], 1)
    return rng, rng.standard_normal((n, c, height, width)), np.concatenate([rois, REGIONS[:1]]), pooled


@pytest.mark.parametrize("seed", range(12))
def test_means_of_points_against_a_loop(seed):
    rng, x, rois, pooled = scene(seed)
    scale, ratio, end = float(rng.choice([0.25, 0.5, 1])), int(rng.integers(-1, 4)), int(rng.integers(2))
    text = f"spatial_scale: {scale} sampling_ratio: {ratio} roi_end_mode: {end}"
    y = top_of(mask_rcnn(f"pooled_h: {pooled[0]} pooled_w: {pooled[1]} {text}"), x, rois)
    assert_close(y, means_of_points(x, rois, pooled, scale, ratio, end), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_corners_of_bins_against_a_loop(seed):
    rng, x, rois, pooled = scene(seed)
    scale, pad_ratio = (float(rng.choice(values)) for values in ([0.25, 0.5, 1], [0, 0.25, 0.5]))
    text = f"spatial_scale: {scale} pad_ratio: {pad_ratio}"
    y = top_of(ms_cnn(f"pooled_h: {pooled[0]} pooled_w: {pooled[1]} {text}"), x, rois)
    assert_close(y, corners_of_bins(x, rois, pooled, scale, pad_ratio), rtol=1e-9, atol=1e-9)


def test_both_forms_on_a_plane(engine):
    """Interpolation is exact there: y is the plane at the middle of the bins, or at their corners."""
    x = np.add.outer(2 * np.arange(8.0), np.arange(9.0)).reshape(1, 1, 8, 9)
    rois = np.array([[0, 1, 2, 5, 6]])
    y = top_of(mask_rcnn("pooled_h: 2 pooled_w: 2 sampling_ratio: 3"), x, rois, dtype=np.float32)
    np.testing.assert_allclose(y[0, 0], [[2 * 3 + 2, 2 * 3 + 4], [2 * 5 + 2, 2 * 5 + 4]], rtol=1e-6)
    y = top_of(ms_cnn("pooled_h: 2 pooled_w: 1"), x, rois, dtype=np.float32)
    np.testing.assert_allclose(y[0, 0], [[3.5, 7.5], [7.5, 11.5], [11.5, 15.5]], rtol=1e-6)


@pytest.mark.parametrize("text", [mask_rcnn(), ms_cnn()])
def test_regions_without_a_size(text):
    """Mask R-CNN's have one place at least, MS-CNN's give 0."""
    layer, bottom, top = run_layer(
        text.replace("pad_ratio: 0.25", ""), np.ones((1, 2, 5, 5)), np.array([[0, 4, 4, 4, 4]])
    )
    assert (top[0].data == ("roi_align" in text)).all()
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff.sum(), top[0].data.sum())


@pytest.mark.parametrize(
    ("text", "x", "rois", "words"),
    [
        (ms_cnn(), (1, 1, 4, 4), REGIONS, "region 1 is of sample 1, but bottom 0 has 1 samples"),
        (mask_rcnn(), (1, 1, 4, 4), np.zeros((2, 4)), r"bottom 1 must be regions \(R, 5\), got \(2, 4\)"),
        (mask_rcnn("pooled_h: 2"), (1, 1, 4, 4), REGIONS, "pooled_h and pooled_w must be at least 1"),
        ("type: 'ROIAlign'", (1, 1, 4, 4), REGIONS, "pooled_h and pooled_w must be at least 1"),
        (mask_rcnn("pooled_h: 2 pooled_w: 2 roi_end_mode: 2"), (1, 1, 4, 4), REGIONS, "roi_end_mode must be 0 or 1"),
    ],
)
def test_errors_name_the_layer(text, x, rois, words):
    with pytest.raises(LayerError, match=f"^ROIAlign layer 'layer': {words}"):
        top_of(text, np.zeros(x), rois)


@pytest.mark.parametrize("text", [mask_rcnn("pooled_h: 2 pooled_w: 2"), ms_cnn()])
def test_regions_that_are_not_finite_or_huge(engine, text):
    rois = np.array([[0, np.nan, 0, 3, 3], [0, -np.inf, 0, np.inf, 3], [0, 0, 0, 1e30, 1e30]])
    layer, bottom, top = run_layer(text, np.ones((1, 1, 5, 5)), rois, dtype=np.float32)
    assert np.isfinite(top[0].data).all() and (top[0].data[:2] == 0).all()
    layer.backward(top, [True, False], bottom)
    assert np.isfinite(bottom[0].diff).all()
