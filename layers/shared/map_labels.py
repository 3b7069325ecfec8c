"""The labels of maps of boxes, as ImageGtData gives them: (N, 6, H, W), see truth_maps."""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer


class MapLabels:
    """What a layer reads of the labels of its map: classes, and which places have the ignored label.

    param: its message, with cls_num, field_w, field_h, downsample_rate, field_whr, field_xyr, coord_num and objectness.
    Raises LayerError if they contradict each other.
    """

    def __init__(self, layer: Layer, param) -> None:
        self.layer, self.param, loss = layer, param, layer.layer_param.loss_param
        self.ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        if param.cls_num < 2 or (param.objectness and param.cls_num != 2):
            raise layer.error(
                f"cls_num must be {'2 with objectness' if param.objectness else 'at least 2'}, got {param.cls_num}"
            )
        if param.coord_num != 4:
            raise layer.error(f"coord_num must be 4, got {param.coord_num}")
        for name in ("field_w", "field_h", "downsample_rate", "field_whr", "field_xyr"):
            if not getattr(param, name) > 0:
                raise layer.error(f"{name} must be above 0, got {getattr(param, name):g}")

    def check(self, map_shape: tuple[int, ...], label_shape: tuple[int, ...]) -> None:
        """Raise LayerError unless a map and its labels fit."""
        channels = self.param.cls_num + 4
        if len(map_shape) != 4 or map_shape[1] != channels:
            raise self.layer.error(f"bottom 0 must be (N, cls_num + 4 = {channels}, H, W), got {map_shape}")
        wanted = (map_shape[0], 6, *map_shape[2:])
        if label_shape != wanted:
            raise self.layer.error(f"bottom 1 must have the labels of bottom 0, {wanted}, got {label_shape}")

    def classes(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each place (N, H, W), 0 for the background, and which places do not have ignore_label.

        LayerError for a class that the map has not.
        """
        classes = labels[:, 0].astype(np.int64)
        if self.param.objectness:
            classes = np.minimum(classes, 1)
        counted = np.ones(classes.shape, bool) if self.ignored is None else classes != self.ignored
        wrong = classes[counted & ((classes < 0) | (classes >= self.param.cls_num))]
        if wrong.size:
            raise self.layer.error(f"label {wrong[0]} is out of range: bottom 0 has {self.param.cls_num} classes")
        return classes, counted
