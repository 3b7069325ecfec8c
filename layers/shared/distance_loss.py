"""The base of GeneralTripletLoss and GeneralContrastiveLoss: losses of distances from the centres of classes."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda import ops
from minicaffe.layers.shared.loss import LossLayer, class_labels


class DistanceLoss(LossLayer):
    """The mean over samples of a cost of their distances d (N, K) from K centres, l the centre of the sample's label.

    Top 0: the loss.  Top 1, optional: the means of d_l and of the other distances, as the type defines them.  It may
    have a loss weight, but has no gradient.
    """

    exact_num_bottom = None
    min_bottom, max_bottom = 2, 3
    exact_num_top = None
    min_top, max_top = 1, 2
    backward_reads = ()
    no_gradient = (1, 2)
    statistics = 2  #: length of top 1
    parts = 3  #: sums of each sample that the kernel writes: the cost, d_l, the others, and more of a type

    def rows(self, d: np.ndarray, own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return costs (N,), slopes (N, K), d_l and the sums of other distances (N,), as top 1 has them.

        own: d_l (N,).  others: True where a distance is that of another centre (N, K).
        """
        raise NotImplementedError

    def row_arguments(self) -> tuple:
        """The parameters of the type's kernel."""
        raise NotImplementedError

    def setup(self, bottom, top):
        self.slopes, self.sums = Blob((), self.dtype), Blob((), self.dtype)

    def top_shapes(self, bottom_shapes):
        super().top_shapes(bottom_shapes)
        d, labels = bottom_shapes[:2]
        if 0 in d[1:]:
            raise self.error(f"bottom 0 must be distances (N, K) from at least one centre, got {d}")
        if math.prod(labels) != d[0]:
            raise self.error(f"bottom 1 must hold one label for each of the {d[0]} samples, got {labels}")
        return [(), (self.statistics,)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.batch = bottom[0].shape[0]
        self.centres = bottom[0].count_range(1)
        self.slopes.reshape(self.batch, self.centres)
        self.sums.reshape(self.parts, self.batch)

    def distances(self, bottom) -> Blob:
        """The blob of d."""
        return bottom[0]

    def forward_cpu(self, bottom, top):
        d = self.distances(bottom).read_data().reshape(self.batch, self.centres)
        labels, _ = class_labels(self, bottom[1].read_data().reshape(-1), self.centres)
        at, n = (np.arange(self.batch), labels), max(self.batch, 1)
        others = np.ones(d.shape, bool)
        others[at] = False
        costs, self.slopes.data[...], positive, negative = self.rows(d, d[at], others)
        top[0].data[...] = costs.sum() / n
        for blob in top[1:]:
            blob.data[:2] = positive.sum() / n, negative.sum() / n / max(self.centres - 1, 1)

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            factor = self.loss_weight(top) / max(self.batch, 1)
            np.multiply(self.slopes.read_data(), factor, out=bottom[0].diff.reshape(self.slopes.shape))

    def forward_gpu(self, bottom, top):
        n, k = self.batch, self.centres
        d, labels, sums = self.distances(bottom).gpu_data(), bottom[1].gpu_data(), self.sums.mutable_gpu_data()
        if n:
            arguments = (n, k, d, labels, *self.row_arguments(), self.wrong_label_gpu(k))
            self.kernel("rows").launch((n, 1), 128, *arguments, self.slopes.mutable_gpu_data(), sums)
        ops.sum(n, sums, self.dtype, out=top[0].mutable_gpu_data(), alpha=1 / max(n, 1))
        for blob in top[1:]:
            size, out = self.dtype.itemsize, blob.mutable_gpu_data()
            ops.sum(n, sums + n * size, self.dtype, out=out, alpha=1 / max(n, 1))
            ops.sum(n, sums + 2 * n * size, self.dtype, out=out + size, alpha=1 / max(n, 1) / max(k - 1, 1))

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            dx = bottom[0].mutable_gpu_diff()
            self.scaled_gpu(bottom[0].count, top, self.slopes.gpu_data(), dx, 1 / max(self.batch, 1))


def only_first_best(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return a mask with, in each row, only the first of the entries in mask `of` with the greatest value."""
    best = np.where(of, values, -np.inf).argmax(1)
    only = np.zeros_like(of)
    only[np.arange(len(of)), best] = True
    return only & of
