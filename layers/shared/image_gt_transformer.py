"""The sizes and factors that MS-CNN's ImageGtData gives images with boxes."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.errors import DataError
from minicaffe.layers.shared.truth_maps import Rules, maps_of, round_half_up
from minicaffe.layers.shared.truth_transformer import Draw, TruthTransformer

_PER_OCTAVE = 2  # sizes that a box may get between min_scale and max_scale
_ASPECT_STEP = 0.05


class ImageGtTransformer(TruthTransformer):
    """The transformation of an ImageGtData layer; param: its image_gt_data_param."""

    empty_row = (0, 1, 1, 2, 2, 1, 1)

    def __init__(self, param, common, train, rng) -> None:
        super().__init__(param, common, train, rng)
        self.scale = param.scale
        self.maps = maps_of(param.downsample_rate, param.field_w, param.field_h)
        self.rules, self.gives_boxes = Rules(param.fg_threshold), param.output_gt_boxes

    def resized_shape(self, shape, ratio=1.0):
        if self.param.resize_width and self.param.resize_height:
            return shape[0], self.param.resize_height, self.param.resize_width
        return tuple(shape)

    def output_shape(self, shape, ratio=1.0):
        channels, height, width = self.resized_shape(shape)
        crop_h, crop_w = self.param.crop_height or height, self.param.crop_width or width
        if crop_h > height or crop_w > width:
            raise DataError(f"image_gt_data_param: crop {crop_h}x{crop_w} is larger than the image, {height}x{width}")
        return channels, crop_h, crop_w

    def box_rows(self, image, rows):
        return np.column_stack([np.full(len(rows), image), rows[:, 2:6], rows[:, :2]])

    def factors(self, box, draw):
        if box is None or not self._scales or draw.scales % 2 == 0:
            return 1.0, 1.0
        return self._factors(box[4:6] - box[2:4], draw)

    @property
    def _scales(self) -> bool:
        return self.param.do_multiple_scale and self.param.HasField("min_scale") and self.param.HasField("max_scale")

    def _factors(self, size: np.ndarray, draw: Draw) -> tuple[float, float]:
        """Return the factors of the width and height of an image whose chosen box has this size."""
        param = self.param
        octaves = np.arange(round_half_up(_PER_OCTAVE * math.log2(param.max_scale / param.min_scale) + 1)) / _PER_OCTAVE
        areas, area = (param.min_scale * 2**octaves) ** 2, float(size.prod())
        present = octaves[(np.minimum(areas, area) / np.maximum(areas, area)).argmax()]
        factor = 2.0 ** (octaves[draw.size % len(octaves)] - present)
        factors = [factor, factor]
        if param.HasField("min_whaspect") and param.HasField("max_whaspect") and draw.reshapes % 2:
            steps = max(1, round_half_up((param.max_whaspect - param.min_whaspect) / _ASPECT_STEP))
            aspect = draw.aspect % steps * _ASPECT_STEP + param.min_whaspect
            multiplier, axis = aspect / (size[0] / size[1]), 0 if draw.widens % 2 else 1
            changed = factor * (multiplier if axis == 0 else 1 / multiplier)
            if 0.8 * param.min_scale <= size[axis] * changed <= 1.2 * param.max_scale:
                factors[axis] = float(changed)
        return factors[0], factors[1]
