"""SmoothL1Loss: the square of small differences, the absolute value of large ones."""

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer
from minicaffe.proto.caffe_pb2 import LossParameter


@register("SmoothL1Loss")
class SmoothL1Loss(LossLayer):
    """loss = sum of w_out * f(w_in * (x - t)) / normalizer, with f(d) = 0.5 (sigma d)^2 where |d| < 1 / sigma^2, else
    |d| - 0.5 / sigma^2.

    Bottoms: x and t, (N, C, ...); optionally w_in, and w_out, of the same shape (1 where absent).  Tops: the loss, one
    number; optionally the loss of each position, (N, 1, ...), the sum over C, which has no gradient.
    x and t get a gradient; the diffs of w_in and w_out are not written.
    smooth_l1_loss_param: sigma (1).  loss_param: normalization (BATCH_SIZE: N; with two tops, as in R-FCN's fork,
    VALID: the number of positions, as FULL).
    Source: Girshick, Fast R-CNN, 2015.
    """

    fork = "Fast R-CNN"
    more_params = ("loss_param",)
    exact_num_bottom = exact_num_top = None
    min_bottom, max_bottom = 2, 4
    min_top, max_top = 1, 2
    no_gradient = (2, 3)

    def setup(self, bottom, top):
        self.sigma2 = self.layer_param.smooth_l1_loss_param.sigma**2
        if not self.sigma2 > 0:
            raise self.error("sigma must not be 0")
        self.mode = self.read_normalization(absent=self.default_mode(len(top)))
        self.slope = Blob((), self.dtype)  # d loss / d x, without the loss weight and the normalizer
        self.terms = DeviceTerms(self.dtype)

    def default_mode(self, tops: int) -> int:
        """Return the normalization of a layer with so many tops whose loss_param has none."""
        return LossParameter.BATCH_SIZE if tops == 1 else LossParameter.VALID

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if np.prod(shape) != np.prod(bottom_shapes[0]):
                raise self.error(f"bottom {i} must have the shape of bottom 0, {bottom_shapes[0]}, got {shape}")
        n, _, *place = bottom_shapes[0] + (1,) * (4 - len(bottom_shapes[0]))
        return [(), (n, 1, *place)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.slope.reshape(bottom[0].shape)
        shape = bottom[0].shape
        self.view = math.prod(shape[:1]), math.prod(shape[1:2]), math.prod(shape[2:])  # outer, channels, inner
        outer, _, inner = self.view
        self.divisor = self.normalizer(self.mode, outer, inner, valid=outer * inner)

    def forward_cpu(self, bottom, top):
        x, t, *weights = (blob.read_data().reshape(bottom[0].shape) for blob in bottom)
        w_in, w_out = (*weights, 1, 1)[:2]
        d = w_in * (x - t)
        near = np.abs(d) < 1 / self.sigma2
        losses = np.where(near, d * d * (0.5 * self.sigma2), np.abs(d) - 0.5 / self.sigma2) * w_out
        top[0].data[...] = losses.sum() / self.divisor
        if len(top) > 1:
            top[1].data = losses.reshape(self.view).sum(1).reshape(top[1].shape)
        self.slope.data[...] = np.where(near, self.sigma2 * d, np.sign(d)) * w_in * w_out

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                scale = sign * self.loss_weight(top) / self.divisor
                np.multiply(self.slope.read_data().reshape(blob.shape), scale, out=blob.diff)

    def forward_gpu(self, bottom, top):
        n, slope, (terms, _) = bottom[0].count, self.slope.mutable_gpu_data(), self.terms.pointers(bottom[0].count)
        x, t, w_in, w_out = (*(blob.gpu_data() for blob in bottom), 0, 0)[:4]
        self.kernel("losses")(n, self.sigma2, x, t, w_in, w_out, terms, slope)
        self.terms.finish(n, self.divisor, top[0].mutable_gpu_data())
        if len(top) > 1:
            _, channels, inner = self.view
            self.kernel("positions")(top[1].count, channels, inner, terms, top[1].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                slope, dx = self.slope.gpu_data(), blob.mutable_gpu_diff()
                self.scaled_gpu(blob.count, top, slope, dx, sign / self.divisor)
