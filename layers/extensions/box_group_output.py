"""BoxGroupOutput: boxes from maps of several scales, each with several boxes at each place."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.map_boxes import Fields, MapBoxes
from minicaffe.layers.shared.pixel_boxes import edges


@register("BoxGroupOutput")
class BoxGroupOutput(MapBoxes):
    """Decodes the A boxes at each place of the maps, and drops those that overlap a better one.

    bottoms: for each scale probabilities (N A, K, H, W), the first that of the background, and codes (N A, 4, H, W)
    tops: regions (R, 5, 1, 1), rows (image, x1, y1, x2, y2), x2 and y2 being the last pixels, by image, the best first;
        optionally (R, 6, 1, 1), with the score.  Without any box one region (0, 1, 1, 10, 10), and zeros.

    The score is 1 minus the probability of the background.  Boxes are clipped to 0 and H and W times the stride.

    box_group_output_param: box_group_param of each scale { field_w and field_h of each of the A boxes, stride: pixels
        for a place }; fg_thr 0, least score; iou_thr 0.5, nms_type "IOU", max_nms_num, max_post_nms_num 0 (all): of the
        best max_nms_num boxes of an image, those whose overlap with a better one is above iou_thr are dropped, and
        max_post_nms_num kept; field_whr 2, field_xyr 2: limits of the code; min_size 15.
    bbox_reg_param: bbox_mean and bbox_std of the codes.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    min_bottom = 2

    def message(self):
        return self.layer_param.box_group_output_param

    def read_fields(self, bottoms):
        groups = self.param.box_group_param
        if 2 * len(groups) != bottoms:
            raise self.error(f"{bottoms} bottoms must be two for each box_group_param, got {len(groups)} of them")
        for group in groups:
            if not group.field_w or len(group.field_w) != len(group.field_h):
                raise self.error(
                    f"a box_group_param must have as many field_w as field_h, got {list(group.field_w)} and "
                    f"{list(group.field_h)}"
                )
        return [Fields(np.column_stack([group.field_w, group.field_h]), group.stride) for group in groups]

    def top_shapes(self, bottom_shapes):
        batch = bottom_shapes[0][0] // len(self.fields[0].sizes) if bottom_shapes[0] else 0
        for i, own in enumerate(self.fields):
            scores, codes = bottom_shapes[2 * i : 2 * i + 2]
            rows = batch * len(own.sizes)
            if len(scores) != 4 or scores[0] != rows or scores[1] < 1 or codes != (rows, 4, *scores[2:]):
                raise self.error(
                    f"bottoms {2 * i} and {2 * i + 1} must be (N A, K, H, W) and (N A, 4, H, W), here with N = {batch} "
                    f"and A = {len(own.sizes)}, got {scores} and {codes}"
                )
        return super().top_shapes(bottom_shapes)

    def maps(self, bottom):
        pairs = zip(bottom[::2], bottom[1::2], self.fields)
        found = []
        for scores, codes, own in pairs:
            grouped = (-1, len(own.sizes))
            scores, codes = scores.read_data(), codes.read_data()
            background = scores[:, 0].reshape(*grouped, *scores.shape[2:])
            found.append((1 - background, codes.reshape(*grouped, *codes.shape[1:])))
        return found

    def clipped(self, start, size, picture):
        start, last = np.maximum(start, 0), np.minimum(start + size - 1, picture)
        return np.concatenate([start, last], 1), last - start + 1

    def areas(self, boxes):
        return edges(boxes)
