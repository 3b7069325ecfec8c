"""DetectionAccuracy: which classes of a map of boxes are right, and how well its boxes overlap the annotated ones."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.map_accuracy import MapAccuracy


@register("DetectionAccuracy")
class DetectionAccuracy(MapAccuracy):
    """Accuracy of all places that count and of those with an object; the mean overlap of the boxes at these.

    bottoms: a map (N, K + 4, H, W), scores of K classes, the first the background, then the code of the box; its labels
        (N, 6, H, W), as of ImageGtData
    tops: both accuracies (1, 1, 1, 2); optionally the mean intersection over union (1, 1, 1, 1).  -1 where nothing
        counts.

    A place of the background that overlaps a box by bg_threshold or more does not count.

    detection_accuracy_param: cls_num K; field_w, field_h and downsample_rate of the map; top_k 1: a class is right if
        it is among the top_k largest scores; field_whr 2 and field_xyr 4, limits of the code; bg_threshold 0.5;
        objectness false (true: K is 2, all objects are class 1).
    loss_param: ignore_label.  bbox_reg_param: bbox_mean and bbox_std of the codes.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
    detection, 2016.
    """

    fork = "MS-CNN"
    exact_num_bottom = 2
    last_wins = True

    def message(self):
        return self.layer_param.detection_accuracy_param

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.top_k = self.param.top_k
        if not 1 <= self.top_k <= self.param.cls_num:
            raise self.error(f"top_k must be from 1 to cls_num {self.param.cls_num}, got {self.top_k}")
