"""PSROIPooling: means over a grid of bins in each region, each bin from its own channels."""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.regions import bins, check_shapes, checked_regions, round_half_away


@register("PSROIPooling")
class PSROIPooling(Layer):
    """y[r, d, i, j] = the mean of x[n, (d g + i) g + j] over bin (i, j) of region r, 0 for a bin outside the image

    bottoms: x (N, output_dim g^2, H, W); regions (R, 5), each (n, x1, y1, x2, y2): its sample and its corners, both
        included, in the image's coordinates
    top: (R, output_dim, g, g)

    psroi_pooling_param: output_dim, group_size g, spatial_scale, the factor from the image's coordinates to x's.
    Source: Dai, Li, He and Sun, R-FCN, 2016.
    """

    fork = "R-FCN"
    family = "pooling"
    exact_num_bottom = 2
    exact_num_top = 1
    no_gradient = (1,)
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.psroi_pooling_param
        self.outputs, self.group, self.scale = param.output_dim, param.group_size, param.spatial_scale
        if self.outputs < 1 or self.group < 1:
            raise self.error(f"output_dim and group_size must be at least 1, got {self.outputs} and {self.group}")

    def top_shapes(self, bottom_shapes):
        x, rois = bottom_shapes
        check_shapes(self, x, rois)
        if x[1] != self.outputs * self.group**2:
            raise self.error(
                f"bottom 0 must have output_dim * group_size^2 = {self.outputs * self.group**2} channels, got {x}"
            )
        return [(rois[0], self.outputs, self.group, self.group)]

    def regions(self, bottom):
        """Yield for each region its sample, and the (begin, end) rows and columns of its bins."""
        scale, least = self.dtype.type(self.scale), self.dtype.type(0.1)
        height, width = bottom[0].shape[2:]
        for sample, x1, y1, x2, y2 in checked_regions(self, bottom):
            lines = []
            for low, high, size in ((y1, y2, height), (x1, x2, width)):
                start, end = round_half_away(low) * scale, (round_half_away(high) + 1) * scale
                step = np.maximum(end - start, least) / self.dtype.type(self.group)
                steps = np.arange(self.group + 1, dtype=self.dtype) * step + start
                edges = np.stack([np.floor(steps[:-1]), np.ceil(steps[1:])], 1)
                lines.append(np.clip(edges, 0, size).astype(int))
            yield int(sample), *lines

    def windows(self, values, bottom):
        """Yield for each bin inside the image its index in the top, and its window (output_dim, rows, columns)."""
        values = values.reshape(len(values), self.outputs, self.group, self.group, *bottom[0].shape[2:])
        for r, (sample, rows, columns) in enumerate(self.regions(bottom)):
            for (i, (top_row, end_row)), (j, (left, right)) in bins(rows, columns):
                if end_row > top_row and right > left:
                    yield (r, slice(None), i, j), values[sample, :, i, j, top_row:end_row, left:right]

    def forward_cpu(self, bottom, top):
        y = top[0].data
        y[...] = 0
        for index, window in self.windows(bottom[0].read_data(), bottom):
            y[index] = window.mean((1, 2))

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff = 0
            dy = top[0].read_diff()
            for index, window in self.windows(bottom[0].diff, bottom):
                window += (dy[index] / window[0].size)[:, None, None]

    def forward_gpu(self, bottom, top):
        x, rois, y = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].mutable_gpu_data()
        geometry = (bottom[0].shape[0], self.outputs, *bottom[0].shape[2:], self.group, self.scale)
        self.kernel("forward")(top[0].count, *geometry, x, rois, y)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            geometry = (self.outputs, *bottom[0].shape[2:], self.group, self.scale, top[0].shape[0])
            arguments = (bottom[1].gpu_data(), top[0].gpu_diff(), bottom[0].mutable_gpu_diff())
            self.kernel("backward")(bottom[0].count, *geometry, *arguments)
