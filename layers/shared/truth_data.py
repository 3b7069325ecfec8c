"""The base of layers that read window files of MS-CNN and Cascade R-CNN."""

from __future__ import annotations

from types import MappingProxyType

from minicaffe.layers.shared.base_data import BaseData
from minicaffe.layers.shared.truth_transformer import TruthTransformer


class TruthData(BaseData):
    """Base of ImageGtData, DetectionData and EvalData."""

    transformer: TruthTransformer

    unread_of_transform = MappingProxyType(
        {
            **BaseData.unread_of_transform,
            **dict.fromkeys(("crop_size", "crop_h", "crop_w"), "write crop_width and crop_height"),
            "mean_file": "write mean_value",
            **dict.fromkeys(("noise_param", "force_color", "force_gray"), "remove it"),
        }
    )
    max_top: int | None = None
    capturable = False  # the number of boxes changes from batch to batch

    @classmethod
    def source_shapes(cls, layer_param):
        return [None] * len(layer_param.top)

    def check_maps(self, param, stride: str, tops: int) -> None:
        """Raise LayerError unless the fields `stride`, field_w and field_h are given for each map, and coord_num is 4.

        tops: the number of tops.
        """
        names = stride, "field_w", "field_h"
        given, maps = [list(getattr(param, name)) for name in names], tops - 1 - param.output_gt_boxes
        what = f"{stride}, field_w and field_h"
        if any(len(each) != maps for each in given):
            raise self.error(f"{what} must be given {maps} times each, got {given}")
        if not all(value > 0 for each in given for value in each):
            raise self.error(f"{what} must be above 0, got {given}")
        if param.coord_num != 4:
            raise self.error(f"coord_num must be 4, got {param.coord_num}")

    def label_shapes(self, image):
        maps = [(image[0], 6, *each.size(*image[2:])) for each in self.transformer.maps]
        return [*maps, *([(1, len(self.transformer.empty_row), 1, 1)] if self.transformer.gives_boxes else [])]
