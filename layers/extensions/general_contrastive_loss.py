"""GeneralContrastiveLoss: a sample shall be close to the centre of its class, and a margin away from the others."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.distance_loss import DistanceLoss, only_first_best
from minicaffe.saved import field


@register("GeneralContrastiveLoss")
class GeneralContrastiveLoss(DistanceLoss):
    """loss = sum over samples of (p clamp(d_l - positive_margin) + q sum over other j of max(0, margin - d_j)) / N.

    p and q are positive_weight and negative_weight; clamp limits to 0 and positive_outlier_thresh.
    Bottoms: distances d (N, K) from K centres; labels, N numbers, l; optionally distances that are used in place of
    those of bottom 0, which still gets the gradient.  Tops: the loss; optionally the means of the clamped d_l and of
    max(0, margin - d_j), (2), with add_intra_mae (3): the running mean, too.
    general_contrastive_loss_param: positive_margin (0), negative_margin (1), the margin, positive_weight (1),
    negative_weight (1), positive_outlier_thresh (4; d_l above it has no gradient), max_negative_only (false; true: of
    each sample only the nearest other centre), positive_first (false; true: samples with d_l above
    positive_upper_bound (1) have no terms of others, and their d_l has its gradient), exp_negative_weight (false; true:
    terms exp(-d_j) where d_j is below the margin), normalize_negative (absent; v: the gradients of others are divided
    by s where s, their mean sum over samples divided by v, is above positive_weight), add_intra_mae (false; true: a
    running mean of the clamped d_l, at most max_negative_margin (1.2), is added to the margin).  square has no effect;
    max_positive_only must be false.
    Source: Wang et al., NormFace, 2017.
    """

    fork = "NormFace"
    parts = 4  # the last: minus the sum of the slopes of others

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return not self.param.add_intra_mae  # else a pass changes the running mean

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.param = param = self.layer_param.general_contrastive_loss_param
        if param.max_positive_only:
            raise self.error("max_positive_only is not implemented: it must be false")
        self.bound = param.positive_upper_bound if param.positive_first else np.inf
        self.statistics = 3 if param.add_intra_mae else 2
        self.limits_others = param.HasField("normalize_negative")
        self.mean = Blob((1,), self.dtype)  # the running mean of add_intra_mae
        self.of_others = Blob((1,), self.dtype)  # on the device: s of normalize_negative

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes) > 2 and bottom_shapes[2] != bottom_shapes[0]:
            raise self.error(f"bottom 2 must have the shape of bottom 0, {bottom_shapes[0]}, got {bottom_shapes[2]}")
        return super().top_shapes(bottom_shapes)

    def distances(self, bottom):
        return bottom[2] if len(bottom) > 2 else bottom[0]

    def state(self):
        return {**super().state(), "mean": float(self.mean.read_data()[0])} if self.statistics == 3 else super().state()

    def load_state(self, state):
        super().load_state(state)
        self.load_common_state(state)

    def load_common_state(self, state):
        if self.statistics == 3:
            self.mean.data[0] = field(state, "mean")

    def rows(self, d, own, others):
        param, first = self.param, own > self.bound
        margin = param.negative_margin + (self.mean.read_data()[0] if self.statistics == 3 else 0)
        within = others & (d < margin)
        active = within & ~first[:, None]
        if param.max_negative_only:
            active = only_first_best(-d, active)
        terms = np.exp(-d) if param.exp_negative_weight else margin - d
        clamped = np.clip(own - param.positive_margin, 0, param.positive_outlier_thresh)
        costs = param.positive_weight * clamped + param.negative_weight * (terms * active).sum(1)
        pulled = first | ((own > param.positive_margin) & (own < param.positive_outlier_thresh))
        pushed = active * (param.negative_weight * (terms if param.exp_negative_weight else 1))
        if self.limits_others:
            total = pushed.sum() / param.normalize_negative / max(len(d), 1)
            pushed = pushed / total if total > param.positive_weight else pushed
        slopes = np.where(others, -pushed, param.positive_weight * pulled[:, None])
        if self.statistics == 3:
            mean = 0.99 * self.mean.read_data()[0] + 0.01 * clamped.sum() / max(len(d), 1)
            self.mean.data[0] = min(mean, param.max_negative_margin)
        return costs, slopes, clamped, ((margin - d) * within).sum(1)

    def row_arguments(self):
        param, bound = self.param, min(self.bound, 3e38)
        rule = param.positive_margin, param.negative_margin, param.positive_outlier_thresh, bound
        mean = self.mean.gpu_data() if self.statistics == 3 else 0
        weights = param.positive_weight, param.negative_weight
        return (*rule, *weights, param.max_negative_only, param.exp_negative_weight, mean)

    def forward_cpu(self, bottom, top):
        super().forward_cpu(bottom, top)
        for blob in top[1:] if self.statistics == 3 else ():
            blob.data[2] = self.mean.read_data()[0]

    def forward_gpu(self, bottom, top):
        super().forward_gpu(bottom, top)
        n, param = max(self.batch, 1), self.param
        if self.limits_others:
            of_others = self.of_others.mutable_gpu_data()
            pushed = self.sums.gpu_data() + 3 * self.batch * self.dtype.itemsize
            ops.sum(self.batch, pushed, self.dtype, of_others, 1 / param.normalize_negative / n)
            arguments = self.centres, bottom[1].gpu_data(), param.positive_weight, of_others
            self.kernel("limit_pushes")(self.slopes.count, *arguments, self.slopes.mutable_gpu_data())
        if self.statistics == 3:
            positive, top_mean = self.sums.gpu_data() + self.batch * self.dtype.itemsize, 0
            if len(top) > 1:
                top_mean = top[1].mutable_gpu_data() + 2 * self.dtype.itemsize
            mean = self.mean.mutable_gpu_data()
            rule = self.batch, param.max_negative_margin
            self.kernel("next_mean").launch((1, 1), 256, *rule, positive, mean, top_mean)
