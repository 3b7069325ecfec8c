"""Affinity: how strongly neighbouring pixels belong together."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Affinity")
class Affinity(Layer):
    """y[n, 0, i, j] = min(p[i, j], p[i + 1, j]) and y[n, 1, i, j] = min(p[i, j], p[i, j + 1]), with p = x[n, offset]

    Bottoms: x (N, C, H, W), any number of them; tops: for each one (N, 2, H, W), the edges to the pixel below and to
    the one on the right.  In the last row and column both are 0.

    The gradient goes to the smaller of the two pixels (of equal ones, to the neighbour).  If x has two channels, the
    other one gets the same with its sign changed, for the two are p and 1 - p behind a Softmax: with respect to the
    scores this is twice the derivative.
    affinity_param: offset 0, for each bottom the channel that is read.
    """

    fork = "naibaf7's Caffe"
    min_bottom = 1
    equal_num_bottom_top = True
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        given = list(self.layer_param.affinity_param.offset)
        if len(given) > len(bottom):
            raise self.error(f"offset must be given at most once for each of {len(bottom)} bottoms, got {given}")
        self.offsets = given + [0] * (len(bottom) - len(given))

    def top_shapes(self, bottom_shapes):
        for i, (shape, offset) in enumerate(zip(bottom_shapes, self.offsets)):
            if len(shape) != 4 or not 0 <= offset < shape[1]:
                raise self.error(f"bottom {i} must be (N, C, H, W) with a channel {offset} (its offset), got {shape}")
        return [(shape[0], 2, *shape[2:]) for shape in bottom_shapes]

    def forward_cpu(self, bottom, top):
        for x, y, offset in zip(bottom, top, self.offsets):
            here, below, right = _neighbours(x.read_data()[:, offset])
            y.data[...] = 0
            np.minimum(here, below, out=y.data[:, 0, :-1, :-1])
            np.minimum(here, right, out=y.data[:, 1, :-1, :-1])

    def backward_cpu(self, top, propagate_down, bottom):
        for x, y, offset, wanted in zip(bottom, top, self.offsets, propagate_down):
            if not wanted:
                continue
            x.diff = 0
            dx, dy = x.diff, y.read_diff()
            here, *others = _neighbours(x.read_data()[:, offset])
            to_here, *to_others = _neighbours(dx[:, offset])
            for edge, (other, to_other) in enumerate(zip(others, to_others)):
                slope, smaller = dy[:, edge, :-1, :-1], here < other
                to_here += np.where(smaller, slope, 0)
                to_other += np.where(smaller, 0, slope)
            if x.shape[1] == 2:
                np.negative(dx[:, offset], out=dx[:, 1 - offset])

    def forward_gpu(self, bottom, top):
        for x, y, offset in zip(bottom, top, self.offsets):
            self.kernel("forward")(y.count, *x.shape[1:], offset, x.gpu_data(), y.mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        for x, y, offset, wanted in zip(bottom, top, self.offsets, propagate_down):
            if wanted:
                arguments = (*x.shape[1:], offset, x.gpu_data(), y.gpu_diff(), x.mutable_gpu_diff())
                self.kernel("backward")(x.count, *arguments)


def _neighbours(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return views of maps (N, H, W): pixels that have a neighbour below and one on the right, and these two."""
    return p[:, :-1, :-1], p[:, 1:, :-1], p[:, :-1, 1:]
