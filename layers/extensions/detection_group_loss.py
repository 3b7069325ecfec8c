"""DetectionGroupLoss: the loss of the classes and boxes of maps with several boxes at each place."""

import math

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.map_loss import MapLoss
from minicaffe.layers.shared.map_sampling import sampled

_MINING, _RANKING, _LOSSES = (
    ("random", "bootstrap", "mixture"),
    ("conf_loss", "conf_prob"),
    ("Smooth_L1", "Euclidean_L2"),
)


@register("DetectionGroupLoss")
class DetectionGroupLoss(MapLoss):
    """loss = mean of w * cross entropy over the places that count + lambda * mean of box losses

    bottoms: of the A boxes at each place, scores (N A, K, H, W) of K classes, the first the background, codes
        (N A, 4, H, W), and labels (N A, 6, H, W), as of DetectionData; by image, then by box
    top: (1, 1, 1, 2), the loss, and its second term; the gradient is that of the first number

    Of each image count batch_size places: its objects, or 1 / (1 + bg_multiple) of batch_size of them at random, and
    places of the background that overlap a box by less than bg_threshold.  Without batch_size count all objects, and
    bg_multiple times as many of the background, at least min_num_neg.  The box loss is over the four numbers of each
    code of an object.  With field_whr and field_xyr a predicted number beyond the limits counts as the limit, with the
    gradient of what is left.

    detection_group_loss_param: cls_num K; lambda 1; field_w and field_h of each of the A boxes, and stride; field_whr 4
        and field_xyr 0.25, limits of the code if both are given; bg_threshold 0.5; batch_size -1 (none); bg_multiple 4;
        min_num_neg 5; neg_mining_type "random" ("bootstrap": the largest losses; "mixture": half of both);
        neg_ranking_type; objectness false (true: K is 2, all objects are class 1); pos_neg_weighted false (true: w is
        scaled so that all backgrounds weigh bg_multiple times as much as all objects); bbox_loss_type "Smooth_L1" or
        "Euclidean_L2", half the square.
    loss_param: ignore_label.  bbox_reg_param: bbox_mean and bbox_std of the codes.
    It runs on the CPU, in GPU mode too.
    Source: Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    param_field = "detection_group_loss_param"
    exact_num_bottom = 3
    no_gradient = (2,)

    def message(self):
        return self.layer_param.detection_group_loss_param

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.param
        words = {"neg_mining_type": _MINING, "neg_ranking_type": _RANKING, "bbox_loss_type": _LOSSES}
        for name, known in words.items():
            if getattr(param, name) not in known:
                raise self.error(f"{name} must be one of {', '.join(known)}, got '{getattr(param, name)}'")
        if not (param.batch_size > 0 or param.batch_size == -1):
            raise self.error(f"batch_size must be above 0, or -1, got {param.batch_size}")
        self.smooth = param.bbox_loss_type == "Smooth_L1"
        self.limited = param.HasField("field_whr") and param.HasField("field_xyr")

    def chosen(self, classes, objects, eligible, scores):
        grouped = -1, len(self.labels.sizes) * math.prod(classes.shape[1:])  # an image a row
        own, kept = sampled(
            self.param,
            objects.reshape(grouped),
            eligible.reshape(grouped),
            _hardness(scores).reshape(grouped),
            self.rng,
        )
        return own.reshape(classes.shape), kept.reshape(classes.shape)


def _hardness(scores):
    """Return numbers that order places of the background by their loss, (N A, H, W)."""
    most = scores.max(1)
    return most + np.log(np.exp(scores - most[:, None]).sum(1)) - scores[:, 0]
