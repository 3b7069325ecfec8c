"""ROIWarping, by plain loops, with the gradient to the corners of regions."""

import numpy as np
import pytest

from helpers.regions import REGIONS, regions
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, run_layer, top_of


def warping(text="pooled_h: 3 pooled_w: 4 spatial_scale: 0.5"):
    return f"type: 'ROIWarping' roi_warping_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(warping(), [(2, 2, 7, 6), (5, 5)], [normal, regions], gradient=[0]),
        Case(warping("pooled_h: 5 pooled_w: 2"), [(2, 2, 4, 9), (5, 5)], [normal, regions], gradient=[0]),
        Case(warping("pooled_h: 1 pooled_w: 1"), [(2, 1, 1, 1), (4, 5, 1, 1)], [normal, regions], gradient=[0]),
    ]


def bilinear(picture, row, column):
    height, width = picture.shape
    if not (-0.5 <= row <= height - 0.5 and -0.5 <= column <= width - 0.5):
        return 0.0
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    top, left = int(row), int(column)
    bottom, right, down, across = min(top + 1, height - 1), min(left + 1, width - 1), row - top, column - left
    above = (1 - across) * picture[top, left] + across * picture[top, right]
    return (1 - down) * above + down * ((1 - across) * picture[bottom, left] + across * picture[bottom, right])


def warped(x, region, pooled):
    """Of a region (sample, x1, y1, x2, y2) in x's coordinates."""
    n, x1, y1, x2, y2 = region
    y = np.zeros((x.shape[1], *pooled))
    for c, i, j in np.ndindex(y.shape):
        row, column = y1 + i * max(y2 - y1, 0) / pooled[0], x1 + j * max(x2 - x1, 0) / pooled[1]
        y[c, i, j] = bilinear(x[int(n), c], row, column)
    return y


def rounded(rois, scale):
    scaled = rois[:, 1:] * scale
    return np.concatenate([rois[:, :1], np.trunc(scaled + np.copysign(0.5, scaled))], 1)


@pytest.mark.parametrize("seed", range(6))
def test_against_a_loop(engine, seed):
    rng = np.random.default_rng(seed)
    n, c, height, width = (int(v) for v in rng.integers(1, [4, 4, 9, 9]))
    pooled, scale = tuple(int(v) for v in rng.integers(1, 6, 2)), float(rng.choice([0.25, 0.5, 1]))
    corners = rng.uniform(-4, 2 * max(height, width) + 4, (6, 4))
    corners[:4, 2:] = corners[:4, :2] + rng.uniform(0, 12, (4, 2))
    rois = np.concatenate([rng.integers(0, n, (6, 1)), corners], 1).astype(np.float32).astype(float)
    x = rng.standard_normal((n, c, height, width))
    y = top_of(
        warping(f"pooled_h: {pooled[0]} pooled_w: {pooled[1]} spatial_scale: {scale}"), x, rois, dtype=np.float32
    )
    for got, region in zip(y, rounded(rois, scale)):
        assert_close(got, warped(x, region, pooled), rtol=1e-3, atol=1e-4)


CORNERS = np.array([[0, 2, 0, 12, 10], [1, 0, 4, 8, 14], [1, -2, 4, 40, 12], [0, 30, 30, 34, 34]])


def test_the_gradient_to_the_corners_is_that_without_rounding(engine):
    """Forward differences, as the first bin begins at a place of x, where the value has a kink."""
    rng, pooled, scale, step = np.random.default_rng(0), (7, 3), 0.5, 1e-6
    x = rng.standard_normal((2, 3, 9, 11))
    text = warping(f"pooled_h: {pooled[0]} pooled_w: {pooled[1]} spatial_scale: {scale}")
    layer, bottom, top = run_layer(text, x, CORNERS, dtype=np.float32)
    top[0].diff[...] = dy = rng.standard_normal(top[0].shape)
    layer.backward(top, [False, True], bottom)
    for r, region in enumerate(CORNERS * [1, *[scale] * 4]):
        slopes = [0.0]
        for corner in np.eye(5)[1:] * step:
            change = warped(x, region + corner, pooled) - warped(x, region, pooled)
            slopes.append(scale * (change * dy[r]).sum() / step)
        assert_close(bottom[1].diff[r], slopes, rtol=2e-3, atol=1e-3, what=str(r))


def test_corners_of_a_region_without_a_length():
    """All bins begin at the first corner, which gets the whole gradient."""
    x = np.add.outer(10.0 * np.arange(6), np.arange(7)).reshape(1, 1, 6, 7)
    layer, bottom, top = run_layer(warping("pooled_h: 2 pooled_w: 3"), x, np.array([[0, 2, 1, 2, 1], [0, 4, 3, 1, 1]]))
    np.testing.assert_array_equal(top[0].data[:, 0, 0, 0], [12, 34])
    assert (top[0].data == top[0].data[:, :, :1, :1]).all()
    top[0].diff[...] = 1
    layer.backward(top, [True, True], bottom)
    np.testing.assert_array_equal(bottom[1].diff, [[0, 6, 60, 0, 0]] * 2)
    assert bottom[0].diff.sum() == 12


def test_a_plane_is_interpolated_exactly(engine):
    x = np.add.outer(10.0 * np.arange(8), np.arange(9)).reshape(1, 1, 8, 9)
    y = top_of(warping("pooled_h: 2 pooled_w: 4"), x, np.array([[0, 1, 2, 5, 6]]), dtype=np.float32)
    np.testing.assert_allclose(y[0, 0], [[21, 22, 23, 24], [41, 42, 43, 44]], rtol=1e-6)


def test_regions_that_are_not_finite_or_huge(engine):
    rois = np.array([[0, np.nan, 0, 3, 3], [0, -np.inf, 0, np.inf, 3], [0, 0, 0, 1e30, 1e30]])
    layer, bottom, top = run_layer(warping(), np.ones((1, 1, 5, 5)), rois, dtype=np.float32)
    assert np.isfinite(top[0].data).all() and (top[0].data[:2] == 0).all()
    layer.backward(top, [True, True], bottom)
    assert np.isfinite(bottom[0].diff).all() and np.isfinite(bottom[1].diff).all()


@pytest.mark.parametrize(
    ("text", "rois", "words"),
    [
        (warping("pooled_h: 2"), REGIONS, r"pooled_h and pooled_w must be at least 1, got \(2, 0\)"),
        (warping(), np.zeros((2, 4)), r"bottom 1 must be regions \(R, 5\), got \(2, 4\)"),
        (warping(), REGIONS, "region 1 is of sample 1, but bottom 0 has 1 samples"),
    ],
)
def test_errors_name_the_layer(text, rois, words):
    with pytest.raises(LayerError, match=f"^ROIWarping layer 'layer': {words}"):
        top_of(text, np.zeros((1, 1, 4, 4)), rois)
