"""TripletLoss: an anchor shall be closer to a sample of its class than to one of another."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer


@register("TripletLoss")
class TripletLoss(LossLayer):
    """loss = sum of max(0, margin + |a - p|^2 - |a - n|^2) / 2N.

    Bottoms: anchors a, positives p, negatives n, all (N, C) or (N, C, 1, 1).  Top: one number.
    triplet_loss_param: margin (1).
    Source: Schroff, Kalenichenko and Philbin, FaceNet, 2015.
    """

    fork = "NormFace"
    exact_num_bottom = 3
    no_gradient = ()

    def setup(self, bottom, top):
        self.margin = self.layer_param.triplet_loss_param.margin
        self.active = Blob((), self.dtype)  # 1 for triplets with a loss, else 0
        self.terms = DeviceTerms(self.dtype)

    def top_shapes(self, bottom_shapes):
        a = bottom_shapes[0]
        if len(a) < 2 or any(shape != a for shape in bottom_shapes):
            raise self.error(f"all bottoms must be (N, C), got {', '.join(map(str, bottom_shapes))}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.triplets = bottom[0].shape[0]
        self.active.reshape(self.triplets)

    def _vectors(self, bottom):
        return (blob.read_data().reshape(self.triplets, blob.count_range(1)) for blob in bottom)

    def forward_cpu(self, bottom, top):
        a, p, n = self._vectors(bottom)
        losses = np.maximum(self.margin + np.square(a - p).sum(1) - np.square(a - n).sum(1), 0)
        self.active.data[...] = losses > 0
        top[0].data[...] = losses.sum() / (2 * max(self.triplets, 1))

    def backward_cpu(self, top, propagate_down, bottom):
        a, p, n = self._vectors(bottom)
        share = self.active.read_data()[:, None] * (self.loss_weight(top) / max(self.triplets, 1))
        for blob, wanted, u, v in zip(bottom, propagate_down, (n, p, a), (p, a, n)):
            if wanted:
                np.multiply(u - v, share, out=blob.diff.reshape(u.shape))

    def forward_gpu(self, bottom, top):
        count, (terms, _) = self.triplets, self.terms.pointers(self.triplets)
        a, p, n = (blob.gpu_data() for blob in bottom)
        if count:
            width = bottom[0].count // count
            self.kernel("losses").launch(
                (count, 1), 32, width, self.margin, a, p, n, terms, self.active.mutable_gpu_data()
            )
        self.terms.finish(count, 2 * max(count, 1), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        a, p, n = (blob.gpu_data() for blob in bottom)
        active, count = self.active.gpu_data(), bottom[0].count
        for blob, wanted, u, v in zip(bottom, propagate_down, (n, p, a), (p, a, n)):
            if wanted and count:
                share = active, 1 / self.triplets, top[0].gpu_diff()
                self.kernel("gradient")(count, count // self.triplets, *share, u, v, blob.mutable_gpu_diff())
