"""ContrastiveLoss: small for similar pairs that are close and for dissimilar pairs that are at least a margin apart."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer


@register("ContrastiveLoss")
class ContrastiveLoss(LossLayer):
    """loss = sum of (like d^2 + (1 - like) max(margin - d, 0)^2) / 2N, with d = |a - b| of each pair.

    Bottoms: a and b, (N, C) or (N, C, 1, 1); like, N numbers: 0 for dissimilar pairs, any other for similar ones.
    Top: one number.  a and b get a gradient; the diff of `like` is not written.
    contrastive_loss_param: margin (1), legacy_version (false; true: max(margin - d^2, 0) for dissimilar pairs).
    Source: Hadsell, Chopra and LeCun, 2006.
    """

    exact_num_bottom = 3
    no_gradient = (2,)

    def setup(self, bottom, top):
        param = self.layer_param.contrastive_loss_param
        self.margin, self.legacy = param.margin, param.legacy_version
        self.slope = Blob((), self.dtype)  # d loss / d a, without the loss weight and 1 / N
        self.terms = DeviceTerms(self.dtype)

    def top_shapes(self, bottom_shapes):
        a, b, like = bottom_shapes
        if a != b or len(a) < 2 or np.prod(a[2:]) != 1:
            raise self.error(f"bottoms 0 and 1 must both be (N, C), got {a} and {b}")
        if np.prod(like) != a[0]:
            raise self.error(f"bottom 2 must hold one number for each of the {a[0]} pairs, got {like}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.view = bottom[0].shape[:2]
        self.slope.reshape(self.view)

    def forward_cpu(self, bottom, top):
        a, b = (blob.read_data().reshape(self.view) for blob in bottom[:2])
        like = bottom[2].read_data().reshape(-1).astype(np.int32) != 0
        difference = a - b
        squared = np.square(difference).sum(axis=1)
        if self.legacy:
            room = np.maximum(self.margin - squared, 0)
            unlike_loss, unlike_slope = room, -(room > 0).astype(a.dtype)
        else:
            distance = np.sqrt(squared)
            room = np.maximum(self.margin - distance, 0)
            unlike_loss, unlike_slope = np.square(room), -room / (distance + a.dtype.type(1e-4))  # finite at distance 0
        top[0].data[...] = np.where(like, squared, unlike_loss).sum() / (2 * max(self.view[0], 1))
        np.multiply(np.where(like, a.dtype.type(1), unlike_slope)[:, None], difference, out=self.slope.data)

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                scale = sign * self.loss_weight(top) / max(self.view[0], 1)
                np.multiply(self.slope.read_data(), scale, out=blob.diff.reshape(self.view))

    def forward_gpu(self, bottom, top):
        n, channels = self.view
        a, b, like = (blob.gpu_data() for blob in bottom)
        slope, (terms, _) = self.slope.mutable_gpu_data(), self.terms.pointers(n)
        if n:
            self.kernel("losses").launch((n, 1), 32, channels, self.margin, self.legacy, a, b, like, terms, slope)
        self.terms.finish(n, 2 * max(n, 1), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                slope, dx = self.slope.gpu_data(), blob.mutable_gpu_diff()
                self.scaled_gpu(blob.count, top, slope, dx, sign / max(self.view[0], 1))
