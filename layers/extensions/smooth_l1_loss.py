"""SmoothL1Loss: the square of small differences, the absolute value of large ones."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer


@register("SmoothL1Loss")
class SmoothL1Loss(LossLayer):
    """loss = sum of w_out * f(w_in * (x - t)) / N, with f(d) = 0.5 (sigma d)^2 where |d| < 1 / sigma^2, else
    |d| - 0.5 / sigma^2.

    Bottoms: x and t, (N, ...); optionally w_in, and w_out, of the same shape (1 where absent).  Top: one number.
    x and t get a gradient; the diffs of w_in and w_out are not written.
    smooth_l1_loss_param: sigma (1).
    Source: Girshick, Fast R-CNN, 2015.
    """

    fork = "Fast R-CNN"
    exact_num_bottom = None
    min_bottom, max_bottom = 2, 4

    def setup(self, bottom, top):
        self.sigma2 = self.layer_param.smooth_l1_loss_param.sigma**2
        if not self.sigma2 > 0:
            raise self.error("sigma must not be 0")
        self.slope = Blob((), self.dtype)  # d loss / d x, without the loss weight and 1 / N
        self.terms = DeviceTerms(self.dtype)

    def allow_force_backward(self, bottom_index):
        return bottom_index < 2

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if np.prod(shape) != np.prod(bottom_shapes[0]):
                raise self.error(f"bottom {i} must have the shape of bottom 0, {bottom_shapes[0]}, got {shape}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.slope.reshape(bottom[0].shape)

    def forward_cpu(self, bottom, top):
        x, t, *weights = (blob.read_data().reshape(bottom[0].shape) for blob in bottom)
        w_in, w_out = (*weights, 1, 1)[:2]
        d = w_in * (x - t)
        near = np.abs(d) < 1 / self.sigma2
        losses = np.where(near, d * d * (0.5 * self.sigma2), np.abs(d) - 0.5 / self.sigma2)
        top[0].data[...] = (losses * w_out).sum() / self.batch_size(bottom)
        self.slope.data[...] = np.where(near, self.sigma2 * d, np.sign(d)) * w_in * w_out

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                scale = sign * self.loss_weight(top) / self.batch_size(bottom)
                np.multiply(self.slope.read_data().reshape(blob.shape), scale, out=blob.diff)

    def forward_gpu(self, bottom, top):
        n, slope, (terms, _) = bottom[0].count, self.slope.mutable_gpu_data(), self.terms.pointers(bottom[0].count)
        x, t, w_in, w_out = (*(blob.gpu_data() for blob in bottom), 0, 0)[:4]
        self.kernel("losses")(n, self.sigma2, x, t, w_in, w_out, terms, slope)
        self.terms.finish(n, self.batch_size(bottom), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                slope, dx = self.slope.gpu_data(), blob.mutable_gpu_diff()
                self.scaled_gpu(blob.count, top, slope, dx, sign / self.batch_size(bottom))
