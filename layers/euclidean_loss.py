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
    Extension (naibaf7's Caffe): bottom 2, a weight w for each number, loss = sum of w (a - b)^2 / (2 count), where the
    count is that of all numbers.
    """

    exact_num_bottom = None
    min_bottom, max_bottom = 2, 3
    no_gradient = (2,)

    def setup(self, bottom, top):
        self.difference = Blob((), self.dtype)  # a - b, or w (a - b)
        self.plain = Blob((), self.dtype)  # on the device with w: a - b

    def top_shapes(self, bottom_shapes):
        a, b, *others = bottom_shapes
        if any(a[:1] != shape[:1] or np.prod(a) != np.prod(shape) for shape in (b, *others)):
            raise self.error(f"bottoms must have equal shapes, got {' and '.join(map(str, bottom_shapes))}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.difference.reshape(bottom[0].shape)
        self.plain.reshape(bottom[0].shape if len(bottom) > 2 else ())

    def batch_size(self, bottom):
        return max(1, bottom[0].count) if len(bottom) > 2 else super().batch_size(bottom)

    def forward_cpu(self, bottom, top):
        a, b, *weights = (blob.read_data().reshape(-1) for blob in bottom)
        weighted = self.difference.data.reshape(-1)
        d = np.subtract(a, b, out=None if weights else weighted)
        for w in weights:
            np.multiply(w, d, out=weighted)
        top[0].data[...] = weighted @ d / (2 * self.batch_size(bottom))

    def backward_cpu(self, top, propagate_down, bottom):
        if len(bottom) > 2:
            self.refuse_gradient(propagate_down, 2, "weight")
        scale = self.loss_weight(top) / self.batch_size(bottom)
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                np.multiply(self.difference.read_data().reshape(blob.shape), sign * scale, out=blob.diff)

    def forward_gpu(self, bottom, top):
        n, weighted = bottom[0].count, self.difference.mutable_gpu_data()
        d = self.plain.mutable_gpu_data() if len(bottom) > 2 else weighted
        ops.sub(n, bottom[0].gpu_data(), bottom[1].gpu_data(), d, self.dtype)
        if len(bottom) > 2:
            ops.mul(n, bottom[2].gpu_data(), d, weighted, self.dtype)
        ops.dot(n, weighted, d, self.dtype, out=top[0].mutable_gpu_data(), alpha=1 / (2 * self.batch_size(bottom)))

    def backward_gpu(self, top, propagate_down, bottom):
        if len(bottom) > 2:
            self.refuse_gradient(propagate_down, 2, "weight")
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                d, dx = self.difference.gpu_data(), blob.mutable_gpu_diff()
                self.scaled_gpu(blob.count, top, d, dx, sign / self.batch_size(bottom))
