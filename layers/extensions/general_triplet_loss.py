"""GeneralTripletLoss: a sample shall be closer to the centre of its class than to the others."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.cuda.kernels import kernel
from minicaffe.layers.shared.distance_loss import DistanceLoss, only_first_best


@register("GeneralTripletLoss")
class GeneralTripletLoss(DistanceLoss):
    """loss = negative_weight * sum over samples and centres j other than l of max(0, d_l + margin - d_j) / N.

    Bottoms: distances d (N, K) from K centres; labels, N numbers, l; optionally a weight of each sample, N numbers,
    which multiplies the gradient.  Tops: the loss; optionally the means of d_l and of the other distances, (2).
    general_triplet_loss_param: margin (0.2), negative_weight (1), hardest_only (false; true: of each sample only the
    greatest term), positive_first (false; true: samples with d_l above positive_upper_bound (1) have no terms),
    positive_weight (1), add_center_loss (true).

    The gradient, besides 1 / N, is -negative_weight for each d_j with a term, and positive_weight, once, for d_l:
    always with add_center_loss, else if there is a term or d_l is above the bound of positive_first.  It is not the
    derivative.
    Source: Wang et al., NormFace, 2017.
    """

    fork = "NormFace"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.param = self.layer_param.general_triplet_loss_param
        self.bound = self.param.positive_upper_bound if self.param.positive_first else np.inf

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes) > 2 and np.prod(bottom_shapes[2]) != bottom_shapes[0][0]:
            raise self.error(f"bottom 2 must hold one weight for each sample, got {bottom_shapes[2]}")
        return super().top_shapes(bottom_shapes)

    def rows(self, d, own, others):
        param, first = self.param, own > self.bound
        terms = own[:, None] + param.margin - d
        active = others & (terms > 0) & ~first[:, None]
        if param.hardest_only:
            active = only_first_best(terms, active)
        pulled = param.add_center_loss | active.any(1) | first
        slopes = np.where(others, -param.negative_weight * active, param.positive_weight * pulled[:, None])
        return param.negative_weight * (terms * active).sum(1), slopes, own, (d * others).sum(1)

    def row_arguments(self):
        param = self.param
        rule = param.margin, param.positive_weight, param.negative_weight, min(self.bound, 3e38)
        return (*rule, param.hardest_only, param.add_center_loss)

    def forward_cpu(self, bottom, top):
        super().forward_cpu(bottom, top)
        if len(bottom) > 2:
            self.slopes.data[...] *= bottom[2].read_data().reshape(-1, 1)

    def forward_gpu(self, bottom, top):
        super().forward_gpu(bottom, top)
        if len(bottom) > 2:
            slopes = self.slopes.mutable_gpu_data()
            scale = kernel("extensions/channel_scale", "scale", self.dtype)
            scale(self.slopes.count, self.centres, 1, bottom[2].gpu_data(), slopes, slopes)
