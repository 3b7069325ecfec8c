"""SmoothL1LossOHEM: the smooth L1 loss, also of each region, for online hard example mining."""

from minicaffe.core.registry import register
from minicaffe.layers.extensions.smooth_l1_loss import SmoothL1Loss
from minicaffe.proto.caffe_pb2 import LossParameter


@register("SmoothL1LossOHEM")
class SmoothL1LossOHEM(SmoothL1Loss):
    """SmoothL1Loss over all positions: loss = sum of f(w (x - t)) / normalizer, by default the number of positions.

    Bottoms: x and t, (N, C, ...); optionally w, of the same shape.  Tops: the loss, one number; optionally the loss of
    each position, (N, 1, ...), the sum over C, which has no gradient.
    x and t get a gradient, w does not.
    smooth_l1_loss_param: sigma (1).  loss_param: normalization (VALID, as FULL: the number of positions; PRE_FIXED:
    pre_fixed_normalizer).
    Source: Shrivastava, Gupta and Girshick, Training region-based object detectors with online hard example mining,
    2016; Dai, Li, He and Sun, R-FCN, 2016.
    """

    fork = "R-FCN"
    max_bottom = 3

    @classmethod
    def kernel_file(cls):
        return "extensions/smooth_l1_loss"

    def default_mode(self, tops):
        return LossParameter.VALID
