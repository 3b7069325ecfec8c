"""ROIPooling: maxima over a grid of bins in each region."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.shared.regions import check_shapes, checked_regions, enlarge, round_half_away


@register("ROIPooling")
class ROIPooling(Layer):
    """y[r, c, i, j] = the largest x[n, c] in bin (i, j) of region r, 0 for a bin outside the image

    bottoms: x (N, C, H, W); regions (R, 5), each (n, x1, y1, x2, y2): its sample and its corners, both included, in
        the image's coordinates
    top: (R, C, pooled_h, pooled_w)

    roi_pooling_param: pooled_h, pooled_w, spatial_scale 1, the factor from the image's coordinates to x's; pad_ratio 0:
        regions are enlarged on each side by this fraction of their width or height (MS-CNN).

    R-C3D: x (N, C, L, H, W); regions (R, 3), each (n, first, last): a part of the time, with all rows and columns;
        top (R, C, pooled_l, pooled_h, pooled_w).  roi_pooling_param: pooled_l, and temporal_scale 1, the factor from
        frames to places of x.
    Source: Girshick, Fast R-CNN, 2015; Xu, Das and Saenko, R-C3D, 2017.
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
        self.scale, self.pad_ratio, self.temporal_scale = param.spatial_scale, param.pad_ratio, param.temporal_scale
        self.of_volumes = param.HasField("pooled_l")
        self.bins = (*([param.pooled_l] if self.of_volumes else []), param.pooled_h, param.pooled_w)
        if min(self.bins) < 1:
            names = "pooled_l, pooled_h and pooled_w" if self.of_volumes else "pooled_h and pooled_w"
            raise self.error(f"{names} must be at least 1, got {self.bins}")
        if self.of_volumes and self.pad_ratio:
            raise self.error(f"pad_ratio is for pictures, not for volumes, got {self.pad_ratio:g}")
        self.places: DeviceBuffer | None = None  # on the device: the position of each maximum

    def top_shapes(self, bottom_shapes):
        x, rois = bottom_shapes
        if not self.of_volumes:
            check_shapes(self, x, rois)
        elif len(x) != 5 or len(rois) < 2 or math.prod(rois[1:]) != 3:
            raise self.error(f"with pooled_l bottoms must be (N, C, L, H, W) and regions (R, 3), got {x} and {rois}")
        return [(rois[0], x[1], *self.bins)]

    def regions(self, bottom):
        """Yield for each region its sample, and the (begin, end) of its bins along each axis."""
        size = bottom[0].shape[2:]
        for sample, *corners in enlarge(checked_regions(self, bottom), self.pad_ratio):
            if self.of_volumes:
                lines = [(*corners, self.temporal_scale), *((0, n - 1, 1) for n in size[1:])]
            else:
                x1, y1, x2, y2 = corners
                lines = [(y1, y2, self.scale), (x1, x2, self.scale)]
            yield int(sample), *(self._edges(*line, *axis) for line, *axis in zip(lines, self.bins, size))

    def _edges(self, low, high, scale, count: int, size: int) -> np.ndarray:
        """Return the (begin, end) of `count` bins from low to high, scaled and clipped to `size` places."""
        start, end = (round_half_away(self.dtype.type(each) * self.dtype.type(scale)) for each in (low, high))
        step = np.maximum(end - start + 1, 1) / self.dtype.type(count)
        steps = np.arange(count + 1, dtype=self.dtype) * step
        edges = np.stack([np.floor(steps[:-1]), np.ceil(steps[1:])], 1) + start
        return np.clip(edges, 0, size).astype(int)

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data(), top[0].data
        self.found = np.full(y.shape, -1)
        for r, (sample, *lines) in enumerate(self.regions(bottom)):
            for place in product(*(list(enumerate(line)) for line in lines)):
                where, edges = zip(*place)
                window = x[(sample, slice(None), *(slice(*each) for each in edges))]
                at = (r, slice(None), *where)
                if not window.size:
                    y[at] = 0
                    continue
                flat = window.reshape(len(window), -1)
                best = flat.argmax(1)
                y[at] = flat[np.arange(len(flat)), best]
                inside = np.unravel_index(best, window.shape[1:])
                self.found[at] = np.ravel_multi_index([i + low for i, (low, _) in zip(inside, edges)], x.shape[2:])

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff = 0
            dx, dy = bottom[0].diff.reshape(*bottom[0].shape[:2], bottom[0].count_range(2)), top[0].read_diff()
            for r, region in enumerate(checked_regions(self, bottom)):
                c, *where = np.nonzero(self.found[r] >= 0)
                np.add.at(dx[int(region[0])], (c, self.found[(r, c, *where)]), dy[(r, c, *where)])

    def forward_gpu(self, bottom, top):
        n, x, rois = top[0].count, bottom[0].gpu_data(), bottom[1].gpu_data()
        if self.places is None or self.places.nbytes < 4 * n:
            self.places = DeviceBuffer(4 * n)
        scales = self.temporal_scale, self.scale, self.pad_ratio
        geometry = (self.of_volumes, *self._in_volumes(bottom[0].shape), *self._in_volumes(self.bins, 0), *scales)
        self.kernel("forward")(n, *geometry, x, rois, top[0].mutable_gpu_data(), self.places)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            shape, numbers = bottom[0].shape, 3 if self.of_volumes else 5
            geometry = (shape[1], math.prod(shape[2:]), math.prod(self.bins), top[0].shape[0], numbers)
            arguments = (bottom[1].gpu_data(), top[0].gpu_diff(), self.places, bottom[0].mutable_gpu_diff())
            self.kernel("backward")(bottom[0].count, *geometry, *arguments)

    def _in_volumes(self, shape: tuple[int, ...], axis: int = 2) -> tuple[int, ...]:
        """Return a shape with one place along time, the given axis, if it has none."""
        return shape if self.of_volumes else (*shape[:axis], 1, *shape[axis:])
