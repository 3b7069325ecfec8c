"""EuclideanLoss: half the squared distance of two blobs, per sample."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.loss import LossLayer


@register("EuclideanLoss")
class EuclideanLoss(LossLayer):
    """loss = sum of (a - b)^2 / (2 N).

    Bottoms: a and b, (N, ...), with as many numbers each.  Top: one number.  Both bottoms get a gradient.
    """

    no_gradient = ()

    def setup(self, bottom, top):
        self.difference = Blob((), self.dtype)

    def top_shapes(self, bottom_shapes):
        a, b = bottom_shapes
        if a[:1] != b[:1] or np.prod(a) != np.prod(b):
            raise self.error(f"bottoms must have equal shapes, got {a} and {b}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.difference.reshape(bottom[0].shape)

    def forward_cpu(self, bottom, top):
        a, b = (blob.read_data().reshape(-1) for blob in bottom)
        d = np.subtract(a, b, out=self.difference.data.reshape(-1))
        top[0].data[...] = d @ d / (2 * self.batch_size(bottom))

    def backward_cpu(self, top, propagate_down, bottom):
        scale = self.loss_weight(top) / self.batch_size(bottom)
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                np.multiply(self.difference.read_data().reshape(blob.shape), sign * scale, out=blob.diff)

    def forward_gpu(self, bottom, top):
        n, d = bottom[0].count, self.difference.mutable_gpu_data()
        ops.sub(n, bottom[0].gpu_data(), bottom[1].gpu_data(), d, self.dtype)
        ops.dot(n, d, d, self.dtype, out=top[0].mutable_gpu_data(), alpha=1 / (2 * self.batch_size(bottom)))

    def backward_gpu(self, top, propagate_down, bottom):
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                d, dx = self.difference.gpu_data(), blob.mutable_gpu_diff()
                self.scaled_gpu(blob.count, top, d, dx, sign / self.batch_size(bottom))
