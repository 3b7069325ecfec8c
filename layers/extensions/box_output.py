"""BoxOutput: boxes from maps of several scales, each with one box at each place."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.map_boxes import Fields, MapBoxes


@register("BoxOutput")
class BoxOutput(MapBoxes):
    """Decodes the box at each place of the maps, and drops those that overlap a better one.

    bottoms: one map (N, K + 4, H, W) for each scale: scores of K classes, the first the background, then the code of
        the box
    tops: regions (R, 5, 1, 1), rows (image, x1, y1, x2, y2), by image, the best first; optionally (R, 6, 1, 1), with
        the score.  Without any box one region (0, 1, 1, 10, 10), and zeros.

    The score is the largest of an object minus that of the background.  The left and upper edge are moved into the
    picture, H and W times downsample_rate, with the whole box; the right and lower ones are cut off.

    box_output_param: field_w, field_h and downsample_rate of each map: the box's size, and pixels for a place;
        fg_thr 0, least score; iou_thr 0.5, nms_type "IOU", max_nms_num, max_post_nms_num 0 (all): of the best
        max_nms_num boxes of an image, those whose overlap with a better one is above iou_thr are dropped, and
        max_post_nms_num kept; field_whr 2, field_xyr 2: limits of the code; min_size 15.
    bbox_reg_param: bbox_mean and bbox_std of the codes.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
    detection, 2016.
    """

    fork = "MS-CNN"

    def message(self):
        return self.layer_param.box_output_param

    def read_fields(self, bottoms):
        param = self.param
        given = [list(each) for each in (param.field_w, param.field_h, param.downsample_rate)]
        if any(len(each) != bottoms for each in given):
            raise self.error(f"field_w, field_h and downsample_rate must be given {bottoms} times each, got {given}")
        return [Fields(np.array([[w, h]]), rate) for w, h, rate in zip(*given)]

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if len(shape) != 4 or shape[:2] != bottom_shapes[0][:2] or shape[1] < 6:
                raise self.error(f"bottom {i} must be (N, K + 4, H, W), the same N and K in all, got {shape}")
        return super().top_shapes(bottom_shapes)

    def maps(self, bottom):
        each = [blob.read_data() for blob in bottom]
        return [(x[:, 1:-4].max(1, keepdims=True) - x[:, :1], x[:, None, -4:]) for x in each]

    def clipped(self, start, size, picture):
        start = np.maximum(start, 0)
        size = np.minimum(size, picture - start)
        return np.concatenate([start, start + size], 1), size

    def areas(self, boxes):
        return boxes
