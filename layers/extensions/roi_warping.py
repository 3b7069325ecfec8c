"""ROIWarping: one bilinear value in each bin of a region, with a gradient to the region's corners."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.regions import check_shapes, checked_regions, round_half_away


class _Axis(NamedTuple):
    """Of a region's bins on an axis: the weights of x's places, their slopes (bins, size), and which part of the way
    from one corner to the other each bin begins at (bins)."""

    weights: np.ndarray
    slopes: np.ndarray
    part: np.ndarray


@register("ROIWarping")
class ROIWarping(Layer):
    """y[r, c, i, j] = x[n, c] where bin (i, j) of region r begins, by bilinear interpolation

    bottoms: x (N, C, H, W); regions (R, 5), each (n, x1, y1, x2, y2): its sample and its corners in the image's
        coordinates
    top: (R, C, pooled_h, pooled_w)

    Corners are multiplied by spatial_scale and rounded; one at the wrong side is moved to x1 or y1.  Values up to half
    a place outside of x are those at its border, those further outside are 0.  In the gradient to the corners,
    rounding is the identity.
    roi_warping_param: pooled_h, pooled_w; spatial_scale 1, the factor from the image's coordinates to x's.
    Source: Dai, He and Sun, Instance-aware semantic segmentation via multi-task network cascades, 2016.
    """

    fork = "MNC"
    family = "pooling"
    param_field = "roi_warping_param"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.roi_warping_param
        self.bins, self.scale = (param.pooled_h, param.pooled_w), param.spatial_scale
        if min(self.bins) < 1:
            raise self.error(f"pooled_h and pooled_w must be at least 1, got {self.bins}")

    def top_shapes(self, bottom_shapes):
        x, rois = bottom_shapes
        check_shapes(self, x, rois)
        return [(rois[0], x[1], *self.bins)]

    def axes(self, bottom):
        """Yield for each region its sample, rows and columns."""
        height, width = bottom[0].shape[2:]
        for sample, x1, y1, x2, y2 in checked_regions(self, bottom):
            yield int(sample), self._axis(y1, y2, self.bins[0], height), self._axis(x1, x2, self.bins[1], width)

    @np.errstate(invalid="ignore", over="ignore")
    def _axis(self, low: np.floating, high: np.floating, bins: int, size: int) -> _Axis:
        scale = self.dtype.type(self.scale)
        start, end = round_half_away(low * scale), round_half_away(high * scale)
        part = np.arange(bins, dtype=self.dtype) / self.dtype.type(bins) * (end > start)
        at = start + np.arange(bins, dtype=self.dtype) * (np.fmax(end - start, 0) / self.dtype.type(bins))
        inside = ((at >= -0.5) & (at <= size - 0.5))[:, None]
        place = np.clip(np.where(inside[:, 0], at, 0), 0, size - 1)[:, None]
        below, places = np.minimum(np.floor(place), size - 1), np.arange(size, dtype=self.dtype)
        between = inside & (at[:, None] == place) & (below < size - 1)
        slopes = np.where(between, (places == below + 1) * 1.0 - (places == below), 0)
        weights = np.where(inside, np.maximum(1 - np.abs(place - places), 0), 0)
        return _Axis(weights.astype(self.dtype), slopes.astype(self.dtype), part)

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data(), top[0].data
        for r, (sample, rows, columns) in enumerate(self.axes(bottom)):
            y[r] = rows.weights @ x[sample] @ columns.weights.T

    def backward_cpu(self, top, propagate_down, bottom):
        x, dy = bottom[0].read_data(), top[0].read_diff()
        if propagate_down[0]:
            bottom[0].diff = 0
            dx = bottom[0].diff
            for r, (sample, rows, columns) in enumerate(self.axes(bottom)):
                dx[sample] += rows.weights.T @ dy[r] @ columns.weights
        if propagate_down[1]:
            corners = bottom[1].diff.reshape(-1, 5)
            for r, (sample, rows, columns) in enumerate(self.axes(bottom)):
                across = (dy[r] * (rows.weights @ x[sample] @ columns.slopes.T)).sum((0, 1))
                down = (dy[r] * (rows.slopes @ x[sample] @ columns.weights.T)).sum((0, 2))
                x1, y1 = across @ (1 - columns.part), down @ (1 - rows.part)
                corners[r] = 0, x1, y1, across @ columns.part, down @ rows.part
            corners *= self.dtype.type(self.scale)

    def forward_gpu(self, bottom, top):
        x, rois, y = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].mutable_gpu_data()
        self.kernel("forward")(top[0].count, *self._geometry(bottom), x, rois, y)

    def backward_gpu(self, top, propagate_down, bottom):
        x, rois, dy, regions = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].gpu_diff(), top[0].shape[0]
        if propagate_down[0]:
            dx = bottom[0].mutable_gpu_diff()
            self.kernel("backward")(bottom[0].count, regions, *self._geometry(bottom), rois, dy, dx)
        if propagate_down[1] and regions:
            drois = bottom[1].mutable_gpu_diff()
            self.kernel("corners").launch((regions, 1), 128, *self._geometry(bottom), x, rois, dy, drois)

    def _geometry(self, bottom):
        """Return the arguments of kernels that describe x and the bins."""
        return *bottom[0].shape, *self.bins, self.scale
