"""The labels of maps of boxes, as ImageGtData and DetectionData give them: (N, 6, H, W), see truth_maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.layers.shared.views import truncated

_POSITIVE = ("field_w", "field_h", "downsample_rate", "stride", "field_whr", "field_xyr")


class MapLabels:
    """What a layer reads of a map, its boxes and its labels.

    MS-CNN has one box at each place, and one blob (N, K + 4, H, W) of scores and codes; Cascade R-CNN A boxes, with
    scores (N A, K, H, W) and codes (N A, 4, H, W).

    param: the layer's message, with cls_num, field_w, field_h, downsample_rate or stride, field_whr, field_xyr and
    objectness.  sizes: (A, 2), widths and heights.  Raises LayerError if they contradict each other.
    """

    def __init__(self, layer: Layer, param) -> None:
        self.layer, self.param, loss = layer, param, layer.layer_param.loss_param
        self.ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        if param.cls_num < 2 or (param.objectness and param.cls_num != 2):
            raise layer.error(
                f"cls_num must be {'2 with objectness' if param.objectness else 'at least 2'}, got {param.cls_num}"
            )
        if getattr(param, "coord_num", 4) != 4:
            raise layer.error(f"coord_num must be 4, got {param.coord_num}")
        for name in _POSITIVE:
            values = np.ravel(getattr(param, name, 1))
            if not (values > 0).all():
                raise layer.error(f"{name} must be above 0, got {values[~(values > 0)][0]:g}")
        widths, heights = np.ravel(param.field_w), np.ravel(param.field_h)
        if not len(widths) or len(widths) != len(heights):
            raise layer.error(f"there must be as many field_w as field_h, got {list(widths)} and {list(heights)}")
        self.sizes = np.column_stack([widths, heights]).astype(layer.dtype)
        self.joined = layer.exact_num_bottom == 2  # scores and codes are in one blob
        self.stride = param.downsample_rate if self.joined else param.stride

    def check(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise LayerError unless the bottoms' shapes fit: those of the map, then that of its labels."""
        classes, boxes, first = self.param.cls_num, len(self.sizes), shapes[0]
        channels = classes + 4 if self.joined else classes
        if len(first) != 4 or first[1] != channels or first[0] % boxes:
            rows = f"({'N' if boxes == 1 else f'{boxes} N'}, cls_num{' + 4' if self.joined else ''} = {channels}, H, W)"
            raise self.layer.error(f"bottom 0 must be {rows}, got {first}")
        wanted = {len(shapes) - 1: ("labels", 6)} if self.joined else {1: ("codes", 4), 2: ("labels", 6)}
        for i, (what, length) in wanted.items():
            if shapes[i] != (first[0], length, *first[2:]):
                fitting = (first[0], length, *first[2:])
                raise self.layer.error(f"bottom {i} must have the {what} of bottom 0, {fitting}, got {shapes[i]}")

    def split(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return views of the scores and the codes of arrays with the shapes of the bottoms before the labels."""
        return (arrays[0][:, :-4], arrays[0][:, -4:]) if self.joined else (arrays[0], arrays[1])

    def sizes_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the sizes (n, 2) of the boxes at places; rows: (n,), their indices in axis 0."""
        return self.sizes[rows % len(self.sizes)]

    def classes(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each place (N, H, W), 0 for the background, and which places do not have ignore_label.

        LayerError for a class that the map has not.
        """
        classes = truncated(labels[:, 0], np.int64)
        if self.param.objectness:
            classes = np.minimum(classes, 1)
        counted = np.ones(classes.shape, bool) if self.ignored is None else classes != self.ignored
        wrong = classes[counted & ((classes < 0) | (classes >= self.param.cls_num))]
        if wrong.size:
            raise self.layer.error(f"label {wrong[0]} is out of range: bottom 0 has {self.param.cls_num} classes")
        return classes, counted
