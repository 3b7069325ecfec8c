"""FrcnnProposal: regions from the scores and codes of a region proposal network, with the settings of a JSON file."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.errors import DataError
from minicaffe.layers.shared.anchors import Limits, best, by_anchor, check_maps, decoded_map, large_enough
from minicaffe.proto import TRAIN
from minicaffe.text import read_text


@register("FrcnnProposal")
class FrcnnProposal(Layer):
    """Decodes the box of each anchor, clips it to the image, and keeps the best.

    bottoms: probabilities (1, 2 A, H, W), those of objects in the second half; codes (1, 4 A, H, W); im_info (1, 3 or
        more): height, width and scale of the image
    tops: regions (R, 5, 1, 1), rows (0, x1, y1, x2, y2), the best first; optionally their scores (R, 1, 1, 1)

    window_data_param: config, a JSON file with feat_stride, anchors (x1, y1, x2, y2 of each, of the first place), and
        rpn_pre_nms_top_n, rpn_post_nms_top_n, rpn_nms_thresh and rpn_min_size, in TEST with test_ before the name.  In
        the fork one layer or one program reads the file for all layers; here this layer has to name it.
    proposal_param: feat_stride, if given, replaces that of the file.

    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: github.com/makefile/frcnn; Ren et al., Faster R-CNN, 2015.
    """

    fork = "makefile/frcnn"
    param_field = "proposal_param"
    more_params = ("window_data_param",)
    exact_num_bottom = 3
    min_top, max_top = 1, 2
    always_reshape = True
    capturable = False  # the number of regions depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        path, prefix = self.layer_param.window_data_param.config, "" if self.phase == TRAIN else "test_"
        if not path:
            raise self.error(
                "its settings are in the JSON file that makefile/frcnn's data layer or program reads: name it in this "
                'layer, window_data_param { config: "FILE" }'
            )
        config = _Config(path)
        param = self.layer_param.proposal_param
        self.stride = param.feat_stride if param.HasField("feat_stride") else int(config.number("feat_stride"))
        self.anchors = config.numbers("anchors").reshape(-1, 4)
        before, after = (int(config.number(f"{prefix}rpn_{when}_nms_top_n")) for when in ("pre", "post"))
        if min(before, after) < 1:
            raise self.error(
                f"{prefix}rpn_pre_nms_top_n and ..post.. of {path} must be positive, got {before}, {after}"
            )
        self.limits = Limits(before, after, config.number(f"{prefix}rpn_nms_thresh"))
        self.least = config.number(f"{prefix}rpn_min_size")

    def top_shapes(self, bottom_shapes):
        scores, codes, info = bottom_shapes
        check_maps(self, scores, codes, len(self.anchors), 1)
        if math.prod(info) < 3:
            raise self.error(f"bottom 2 must be im_info (1, 3): height, width, scale; got {info}")
        return [(1, 5, 1, 1), (1, 1, 1, 1)]

    def forward_cpu(self, bottom, top):
        (scores,), (codes,) = bottom[0].read_data(), bottom[1].read_data()
        height, width, scale = bottom[2].read_data().reshape(-1)[:3]
        boxes = decoded_map(codes, self.anchors, self.stride, height, width)
        large = np.flatnonzero(large_enough(boxes, self.least * scale, self.least * scale))
        scores = by_anchor(scores[len(self.anchors) :], len(self.anchors))[:, 0]
        kept = large[best(boxes[large], scores[large], self.limits)]
        for blob, values in zip(top, (np.pad(boxes[kept], ((0, 0), (1, 0))), scores[kept, None])):
            blob.reshape(*values.shape, 1, 1)
            blob.data = values.reshape(blob.shape)


class _Config:
    """The settings of a JSON file, in which each value is a text; DataError when it cannot be read."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            values = json.loads(read_text(path, "config"), strict=False)  # the texts have line breaks
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"config {path} is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"config {path} must have one object with the settings, got {type(values).__name__}")
        self._values: dict[str, Any] = values

    def numbers(self, name: str) -> np.ndarray:
        """Return the numbers of a setting."""
        text = str(self._values.get(name, ""))
        try:
            found = np.array([float(word) for word in text.split(",")])
        except ValueError:
            raise DataError(f"config {self._path} must give '{name}' as numbers, got '{text[:60]}'") from None
        if name == "anchors" and len(found) % 4 or not np.isfinite(found).all():
            raise DataError(f"config {self._path} must give '{name}' as finite numbers, four for each anchor")
        return found

    def number(self, name: str) -> float:
        """Return the number of a setting."""
        found = self.numbers(name)
        if len(found) != 1:
            raise DataError(f"config {self._path} must give one number as '{name}', got {len(found)}")
        return float(found[0])
