"""SegmentationEvaluate: the intersection over union of each class's masks."""

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.data.image import resize


@register("SegmentationEvaluate")
class SegmentationEvaluate(Layer):
    """For each class the intersection of what is above threshold in the predicted and the true masks, over the union.

    bottoms: predictions (N, C, h, w), from 0 to 1; masks (N, C, H, W).
    top: (1, 1, 1, C); 0 without an intersection

    Predictions of another size than the masks are resized to theirs, as bytes (255 p, cut) by areas, and compared with
    255 threshold, cut; a class without any place in the masks is -1 then.

    segmentation_evaluate_param: num_classes C, threshold 0.5.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: MobileNet-YOLO.
    """

    fork = "YOLO"
    family = "loss"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    def setup(self, bottom, top):
        param = self.layer_param.segmentation_evaluate_param
        self.threshold = param.threshold
        if not math.isfinite(self.threshold):
            raise self.error(f"threshold must be finite, got {self.threshold:g}")
        if not param.HasField("num_classes"):
            raise self.error("num_classes must be given")

    def top_shapes(self, bottom_shapes):
        x, masks = bottom_shapes
        classes = self.layer_param.segmentation_evaluate_param.num_classes
        if len(x) != 4 or len(masks) != 4 or x[:2] != masks[:2] or x[1] != classes or 0 in (*x[2:], *masks[2:]):
            raise self.error(
                f"bottoms 0 and 1 must be (N, {classes}, h, w) and (N, {classes}, H, W), num_classes channels, got {x} "
                f"and {masks}"
            )
        return [(1, 1, 1, classes)]

    def forward_cpu(self, bottom, top):
        x, true = bottom[0].read_data(), bottom[1].read_data() > self.threshold
        absent = 0
        found = x > self.threshold
        if x.shape != true.shape:
            absent = -1
            pixels = (x * 255).clip(0, 255).astype(np.uint8)
            height, width = true.shape[2:]
            sized = np.zeros(true.shape, np.uint8)
            for target, each in zip(sized, pixels):
                target[...] = resize(each, height, width, "AREA")
            found = sized > int(self.threshold * 255)
        shared, union = (each.sum((0, 2, 3)) for each in (found & true, found | true))
        empty = np.where(true.any((0, 2, 3)), 0, absent)
        top[0].data[...] = np.where(shared > 0, shared / np.maximum(union, 1), empty)
