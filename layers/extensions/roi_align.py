"""ROIAlign: bilinear values at points of a grid over each region."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.regions import check_shapes, checked_regions, enlarge

_MOST = 1000  # points of a bin on an axis


@register("ROIAlign")
class ROIAlign(Layer):
    """y[r, c] = A x[n, c] B', with the weights A (rows of the top, H), B (columns of the top, W) of bilinear
    interpolation at points in region r

    bottoms: x (N, C, H, W); regions (R, 5), each (n, x1, y1, x2, y2): its sample and its corners in the image's
        coordinates
    top: (R, C, pooled_h, pooled_w), or with roi_pooling_param (R, C, pooled_h + 1, pooled_w + 1)

    Points before the first place of x or behind the last have the value there, those further outside are 0.

    roi_align_param (Mask R-CNN): pooled_h, pooled_w: y is the mean over the points of each of these bins; spatial_scale
        1, the factor from the image's coordinates to x's; sampling_ratio -1: points of a bin on each axis, at the
        centres of equal parts; 0 or less: the places that the bin covers, rounded up, at most 1,000; roi_end_mode 0; 1:
        pixels x2 and y2 belong to the region.  It covers one place at least; points count up to 1 outside of x.
    roi_pooling_param (MS-CNN): pooled_h, pooled_w, spatial_scale 1: one point at each corner of the bins, the centres
        of pixels being at 0.5; pad_ratio 0: regions are enlarged on each side by this fraction of their width or
        height.  Points count up to 0.5 outside of x; a region without width or height gives 0.
    Only x gets a gradient.
    Source: He, Gkioxari, Dollar and Girshick, Mask R-CNN, 2017, as in Caffe2; Cai, Fan, Feris and Vasconcelos, A
    unified multi-scale deep convolutional neural network for fast object detection, 2016.
    """

    fork = "MS-CNN and ports of Mask R-CNN"
    family = "pooling"
    param_field = "roi_align_param"
    more_params = ("roi_pooling_param",)
    exact_num_bottom = 2
    exact_num_top = 1
    no_gradient = (1,)
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        align, corners = self.layer_param.roi_align_param, self.layer_param.roi_pooling_param
        self.on_corners = not self.layer_param.HasField("roi_align_param")
        param = corners if self.on_corners else align
        self.bins, self.scale = (param.pooled_h, param.pooled_w), param.spatial_scale
        if min(self.bins) < 1:
            raise self.error(f"pooled_h and pooled_w must be at least 1, got {self.bins}")
        self.pad_ratio = corners.pad_ratio if self.on_corners else 0.0
        self.points = 1 if self.on_corners else max(align.sampling_ratio, 0)  # of a bin on each axis; 0: by its size
        self.end = align.roi_end_mode  # 0 or 1: what is added to x2 and y2
        if self.end not in (0, 1):
            raise self.error(f"roi_end_mode must be 0 or 1, got {self.end}")

    def top_shapes(self, bottom_shapes):
        x, rois = bottom_shapes
        check_shapes(self, x, rois)
        return [(rois[0], x[1], *(count + self.on_corners for count in self.bins))]

    def matrices(self, bottom):
        """Yield for each region its sample, and the weights A (rows of the top, H) and B (columns of the top, W)."""
        height, width = bottom[0].shape[2:]
        for sample, x1, y1, x2, y2 in enlarge(checked_regions(self, bottom), self.pad_ratio):
            yield int(sample), self.weights(y1, y2, self.bins[0], height), self.weights(x1, x2, self.bins[1], width)

    @np.errstate(invalid="ignore", over="ignore")
    def weights(self, low: np.floating, high: np.floating, bins: int, size: int) -> np.ndarray:
        """Return the weights (places of the top, size) of an axis of x, of a region from `low` to `high`."""
        dtype = self.dtype.type
        places = np.arange(bins + self.on_corners, dtype=dtype)[:, None]
        if self.on_corners:
            start, end, outside = low * dtype(self.scale) - dtype(0.5), high * dtype(self.scale) - dtype(0.5), 0.5
            at = start + places * ((end - start) / dtype(bins))
            at[...] = at if end > start else np.inf
        else:
            start, end, outside = low * dtype(self.scale), (high + dtype(self.end)) * dtype(self.scale), 1.0
            step = np.fmax(end - start, dtype(1)) / dtype(bins)
            points = self.points or math.ceil(min(step, _MOST))
            at = start + places * step + (np.arange(points, dtype=dtype) + dtype(0.5)) * step / dtype(points)
        inside = (at >= -outside) & (at <= size - 1 + outside)
        distance = np.abs(np.clip(at, 0, size - 1)[..., None] - np.arange(size, dtype=dtype))
        return np.where(inside[..., None], np.maximum(1 - distance, 0), 0).mean(1, dtype=dtype)

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data(), top[0].data
        for r, (sample, rows, columns) in enumerate(self.matrices(bottom)):
            y[r] = rows @ x[sample] @ columns.T

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff = 0
            dx, dy = bottom[0].diff, top[0].read_diff()
            for r, (sample, rows, columns) in enumerate(self.matrices(bottom)):
                dx[sample] += rows.T @ dy[r] @ columns

    def forward_gpu(self, bottom, top):
        x, rois, y = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].mutable_gpu_data()
        self.kernel("forward")(top[0].count, bottom[0].shape[0], *self._geometry(bottom), x, rois, y)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            rois, dy, dx = bottom[1].gpu_data(), top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            regions = top[0].shape[0]
            self.kernel("backward")(bottom[0].count, regions, *self._geometry(bottom), rois, dy, dx)

    def _geometry(self, bottom):
        """Return the arguments of kernels that describe the grid over a region."""
        return *bottom[0].shape[1:], *self.bins, self.scale, self.on_corners, self.pad_ratio, self.points, self.end
