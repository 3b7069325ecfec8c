"""DetectionGroupAccuracy: which classes of maps with several boxes at each place are right, and which boxes."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.map_accuracy import MapAccuracy


@register("DetectionGroupAccuracy")
class DetectionGroupAccuracy(MapAccuracy):
    """Accuracy of all places that count and of those with an object; the mean overlap of the boxes at these.

    bottoms: of the A boxes at each place, scores (N A, K, H, W) of K classes, the first the background, codes
        (N A, 4, H, W), and labels (N A, 6, H, W), as of DetectionData; by image, then by box
    tops: both accuracies (1, 1, 1, 2); optionally the mean intersection over union (1, 1, 1, 1).  -1 where nothing
        counts.

    A place of the background that overlaps a box by bg_threshold or more does not count.  Of equal scores the first
    class has the largest one.

    detection_group_accuracy_param: cls_num K; field_w and field_h of each of the A boxes, and stride; field_whr 2 and
        field_xyr 4, limits of the code; bg_threshold 0.5; objectness false (true: K is 2, all objects are class 1).
    loss_param: ignore_label.  bbox_reg_param: bbox_mean and bbox_std of the codes.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    exact_num_bottom = 3

    def message(self):
        return self.layer_param.detection_group_accuracy_param
