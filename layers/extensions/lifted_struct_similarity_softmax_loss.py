"""LiftedStructSimilaritySoftmaxLoss: each pair of a class against all samples of other classes in the batch."""

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.loss import LossLayer


@register("LiftedStructSimilaritySoftmaxLoss")
class LiftedStructSimilaritySoftmaxLoss(LossLayer):
    """loss = sum over the P pairs i < j of one class of max(0, J_ij)^2 / 2P.

    J_ij = D_ij + log(S_i + S_j); S_i is the sum of exp(margin - D_ik) over the samples k of other classes than that of
    i, D the Euclidean distance.
    Bottoms: features (N, ...), labels, N numbers, equal for samples of one class.  Top: one number, 0 if no two samples
    are of one class, or all are.
    lifted_struct_sim_softmax_loss_param: margin (1).
    Source: Song, Xiang, Jegelka and Savarese, Deep metric learning via lifted structured feature embedding, 2016.
    """

    fork = "Lifted Structured Embedding"
    param_field = "lifted_struct_sim_softmax_loss_param"

    def setup(self, bottom, top):
        self.margin = self.layer_param.lifted_struct_sim_softmax_loss_param.margin
        self.coefficients = Blob((), self.dtype)  # d loss / d D_ij / D_ij, without the loss weight; (N, N)
        self.distances, self.rows = Blob((), self.dtype), Blob((), self.dtype)  # on the device

    def top_shapes(self, bottom_shapes):
        features, labels = bottom_shapes
        if self.samples(features) != math.prod(labels):
            raise self.error(f"bottom 1 must hold one label for each of the {features[0]} samples, got {labels}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        n = bottom[0].shape[0]
        self.coefficients.reshape(n, n)
        self.distances.reshape(n, n)
        self.rows.reshape(4, n)  # of each sample: S, the sum of J / (S_i + S_j) over its pairs, their losses, number

    def forward_cpu(self, bottom, top):
        x = bottom[0].read_data().reshape(bottom[0].shape[0], bottom[0].count_range(1))
        labels = bottom[1].read_data().reshape(-1)
        distance = np.sqrt(sum_of_squares(x))
        same = labels[:, None] == labels
        weights = np.where(same, 0, np.exp(self.margin - distance))
        sums = weights.sum(1)
        pairs = same & ~np.eye(len(x), dtype=bool) & (sums[:, None] > 0)  # (i, j) and (j, i)
        both = np.where(pairs, sums[:, None] + sums, 1)
        j = np.where(pairs, np.maximum(np.log(both) + distance, 0), 0)
        count = max(np.count_nonzero(pairs) / 2, 1)
        top[0].data[...] = np.square(j).sum() / 2 / (2 * count)
        share = (j / both).sum(1)
        slopes = j - weights * (share[:, None] + share)
        np.divide(slopes, distance * count, out=self.coefficients.data, where=distance > 0)
        self.coefficients.data[distance == 0] = 0

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            c = self.coefficients.read_data() * self.loss_weight(top)
            x = bottom[0].read_data().reshape(len(c), bottom[0].count_range(1))
            bottom[0].diff.reshape(x.shape)[...] = c.sum(1)[:, None] * x - c @ x

    def forward_gpu(self, bottom, top):
        n, loss = bottom[0].shape[0], top[0].mutable_gpu_data()
        if not n:
            return ops.fill(1, 0, loss, self.dtype)
        x, labels = bottom[0].gpu_data(), bottom[1].gpu_data()
        d, rows, c = (
            self.distances.mutable_gpu_data(),
            self.rows.mutable_gpu_data(),
            self.coefficients.mutable_gpu_data(),
        )
        self.kernel("distances").launch((n * n, 1), 32, n, bottom[0].count // n, x, d)
        self.kernel("sums_of_others").launch((n, 1), 128, n, self.margin, labels, d, rows)
        self.kernel("pairs").launch((n, 1), 128, n, labels, d, rows)
        self.kernel("loss").launch((1, 1), 256, n, rows, loss)
        self.kernel("coefficients")(n * n, n, self.margin, labels, d, rows, c)

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0] and bottom[0].count:
            n, count = bottom[0].shape[0], bottom[0].count
            arguments = n, count // n, top[0].gpu_diff(), self.coefficients.gpu_data(), bottom[0].gpu_data()
            self.kernel("gradient")(count, *arguments, bottom[0].mutable_gpu_diff())


def sum_of_squares(x: np.ndarray) -> np.ndarray:
    """Return |x_i - x_j|^2 for all pairs of rows; exactly 0 for equal ones."""
    return np.stack([np.square(x - row).sum(1) for row in x]) if len(x) else np.zeros((0, 0), x.dtype)
