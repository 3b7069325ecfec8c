"""MapDetectionLoss, MS-CNN's DetectionLoss: the loss of the classes and boxes of a map."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.map_loss import MapLoss
from minicaffe.layers.shared.map_sampling import negatives


@register("MapDetectionLoss")
class MapDetectionLoss(MapLoss):
    """loss = mean of w * cross entropy over the places that count + lambda * mean of box losses

    bottoms: a map (N, K + 4, H, W), scores of K classes, the first the background, then the code of the box; its labels
        (N, 6, H, W), as of ImageGtData
    top: (1, 1, 1, 2), the loss, and its second term; the gradient is that of the first number

    The places with an object count, and those of the background that sample_mode chooses from what overlaps a box by
    less than bg_threshold.  The box loss is over the four numbers of each code of an object: the smooth L1 loss, or
    half the square.  A predicted number beyond the limits counts as the limit, with the gradient of what is left.

    detection_loss_param: cls_num K; lambda 1; field_w, field_h and downsample_rate of the map; bb_smooth true;
        field_whr 2, field_xyr 2, limits of the code; bg_threshold 0.5; bg_multiple 4, sample_mode "random" (or
        "bootstrap", "mixture", anything else: all); objectness false (true: K is 2, all objects are class 1);
        iou_weighted false (true: w of an object is its overlap); pos_neg_weighted false (true: w is scaled so that all
        backgrounds weigh bg_multiple times as much as all objects).
    loss_param: ignore_label.  bbox_reg_param: bbox_mean and bbox_std of the codes.
    It runs on the CPU, in GPU mode too.  Prototxts call it DetectionLoss, as YOLO v1's layer, which has no cls_num.
    Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
    detection, 2016.
    """

    fork = "MS-CNN"
    param_field = "detection_loss_param"

    def message(self):
        return self.layer_param.detection_loss_param

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.smooth = self.param.bb_smooth

    def chosen(self, classes, objects, eligible, scores):
        return objects, negatives(self.param, classes, eligible, scores, self.rng)
