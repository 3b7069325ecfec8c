"""ROIPooling: maxima over a grid of bins in each region."""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.shared.regions import bins, check_shapes, checked_regions, enlarge, round_half_up


@register("ROIPooling")
class ROIPooling(Layer):
    """y[r, c, i, j] = the largest x[n, c] in bin (i, j) of region r, 0 for a bin outside the image

    bottoms: x (N, C, H, W); regions (R, 5), each (n, x1, y1, x2, y2): its sample and its corners, both included, in
        the image's coordinates
    top: (R, C, pooled_h, pooled_w)

    roi_pooling_param: pooled_h, pooled_w, spatial_scale 1, the factor from the image's coordinates to x's; pad_ratio 0:
        regions are enlarged on each side by this fraction of their width or height (MS-CNN).
    Source: Girshick, Fast R-CNN, 2015.
    """

    fork = "Fast R-CNN"
    family = "pooling"
    exact_num_bottom = 2
    exact_num_top = 1
    no_gradient = (1,)
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.roi_pooling_param
        self.bins, self.scale, self.pad_ratio = (param.pooled_h, param.pooled_w), param.spatial_scale, param.pad_ratio
        if min(self.bins) < 1:
            raise self.error(f"pooled_h and pooled_w must be at least 1, got {self.bins}")
        self.places: DeviceBuffer | None = None  # on the device: the position of each maximum

    def top_shapes(self, bottom_shapes):
        x, rois = bottom_shapes
        check_shapes(self, x, rois)
        return [(rois[0], x[1], *self.bins)]

    def regions(self, bottom):
        """Yield for each region its sample, and the (begin, end) rows and columns of its bins."""
        height, width = bottom[0].shape[2:]
        for sample, x1, y1, x2, y2 in enlarge(checked_regions(self, bottom), self.pad_ratio):
            lines = []
            for low, high, count, size in ((y1, y2, self.bins[0], height), (x1, x2, self.bins[1], width)):
                start, end = (
                    round_half_up(low * self.dtype.type(self.scale)),
                    round_half_up(high * self.dtype.type(self.scale)),
                )
                step = np.maximum(end - start + 1, 1) / self.dtype.type(count)
                steps = np.arange(count + 1, dtype=self.dtype) * step
                edges = np.stack([np.floor(steps[:-1]), np.ceil(steps[1:])], 1) + start
                lines.append(np.clip(edges, 0, size).astype(int))
            yield int(sample), *lines

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data(), top[0].data
        self.found = np.full(y.shape, -1)
        for r, (sample, rows, columns) in enumerate(self.regions(bottom)):
            for (i, (top_row, end_row)), (j, (left, right)) in bins(rows, columns):
                window = x[sample, :, top_row:end_row, left:right]
                best = window.reshape(len(window), -1).argmax(1) if window.size else None
                y[r, :, i, j] = 0 if best is None else window.reshape(len(window), -1)[np.arange(len(window)), best]
                if best is not None:
                    row, column = np.divmod(best, right - left)
                    self.found[r, :, i, j] = (top_row + row) * x.shape[3] + left + column

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff = 0
            dx, dy = bottom[0].diff.reshape(*bottom[0].shape[:2], -1), top[0].read_diff()
            for r, sample in enumerate(bottom[1].read_data().reshape(-1, 5)[:, 0].astype(int)):
                c, i, j = np.nonzero(self.found[r] >= 0)
                np.add.at(dx[sample], (c, self.found[r, c, i, j]), dy[r, c, i, j])

    def forward_gpu(self, bottom, top):
        n, x, rois = top[0].count, bottom[0].gpu_data(), bottom[1].gpu_data()
        if self.places is None or self.places.nbytes < 4 * n:
            self.places = DeviceBuffer(4 * n)
        geometry = (*bottom[0].shape, *self.bins, self.scale, self.pad_ratio)
        self.kernel("forward")(n, *geometry, x, rois, top[0].mutable_gpu_data(), self.places)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            geometry = (*bottom[0].shape[1:], *self.bins, top[0].shape[0])
            arguments = (bottom[1].gpu_data(), top[0].gpu_diff(), self.places, bottom[0].mutable_gpu_diff())
            self.kernel("backward")(bottom[0].count, *geometry, *arguments)
