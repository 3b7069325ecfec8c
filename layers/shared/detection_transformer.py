"""The sizes and factors that Cascade R-CNN's DetectionData and EvalData give images with boxes."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.data.distort import Distorter
from minicaffe.layers.shared.truth_maps import Rules, maps_of, round_half_up
from minicaffe.layers.shared.truth_transformer import Draw, TruthTransformer

_STEP = 32  # sides of some sizes are multiples of it
_LONGEST = 2.0**32  # what a Draw's numbers are less than


class _CascadeTransformer(TruthTransformer):
    """Base of both: the rows of boxes, (image, x1, y1, x2, y2, class, ignored, difficult)."""

    empty_row = (-1.0,) * 8

    def box_rows(self, image, rows):
        return np.column_stack([np.full(len(rows), image), rows[:, 2:6], rows[:, :2], rows[:, 6]])

    def fixed_size(self) -> tuple[int, int] | None:
        """Return the height and width of resize_height and resize_width, None unless both are given."""
        size = self.param.resize_height, self.param.resize_width
        return size if all(size) else None

    def by_sides(self) -> bool:
        """Whether the size is that of short_size and long_size."""
        return bool(self.param.short_size and self.param.long_size)


class DetectionTransformer(_CascadeTransformer):
    """The transformation of a DetectionData layer; param: its detection_data_param."""

    def __init__(self, param, common, train, rng) -> None:
        super().__init__(param, common, train, rng)
        self.maps = maps_of(param.stride, param.field_w, param.field_h)
        margin, inside = (
            getattr(param, name) if param.HasField(name) else None
            for name in ("anchor_ignore_margin_ratio", "anchor_ignore_iou_thr")
        )
        self.gives_boxes = param.output_gt_boxes
        self.rules = Rules(param.fg_threshold, param.ignore_fg_threshold, param.pickup_iou_thr, True, margin, inside)
        self._distorter = Distorter(param.distort_param) if param.HasField("distort_param") else None

    def ratio(self):
        ratios = self.param.template_ratio
        return ratios[self.rng.uniform_u32(1).item() % len(ratios)] if ratios else 1.0

    def prepared(self, images, each):
        if self._distorter is None:
            return images
        generator, distorted = self.rng.generator(), list(images)
        drawn = [self._distorter.draw(generator) for _ in images]

        def distort(i: int) -> None:
            distorted[i] = drawn[i](distorted[i])

        each(distort, len(distorted))
        return distorted

    def resized_shape(self, shape, ratio=1.0):
        channels, height, width = shape
        if size := self.fixed_size():
            return channels, *size
        factor = 1.0
        if self.param.HasField("resize_ratio"):
            factor = self.param.resize_ratio
        elif self.by_sides():
            factor = _multiple(self.param.short_size * ratio) / min(height, width)
        return channels, round_half_up(height * factor), round_half_up(width * factor)

    def output_shape(self, shape, ratio=1.0):
        param, (channels, height, width) = self.param, self.resized_shape(shape, ratio)
        tall = height >= width
        if param.crop_width and param.crop_height:
            return channels, param.crop_height, param.crop_width
        if param.crop_short_size and param.crop_long_size:
            return channels, *_sides(param.crop_short_size, param.crop_long_size, tall)
        if self.by_sides():
            short, long = (_multiple(side * ratio) for side in (param.short_size, param.long_size))
            return channels, *_sides(short, long, tall)
        return channels, height, width

    def factors(self, box, draw):
        param, low = self.param, None
        if param.HasField("low_scale_ratio") and param.HasField("high_scale_ratio"):
            low, high = param.low_scale_ratio, param.high_scale_ratio
        elif param.HasField("min_scale") and param.HasField("max_scale") and box is not None:
            scale = math.sqrt(float((box[4:6] - box[2:4] + 1).prod()))
            low, high = param.min_scale / scale, param.max_scale / scale
        if low is None or not draw.scales < param.multiscale_prob * _LONGEST:
            return 1.0, 1.0
        factor, widens = _between(low, high, draw.size), 1.0
        if param.HasField("min_whaspect") and param.HasField("max_whaspect"):
            widens = math.sqrt(_between(param.min_whaspect, param.max_whaspect, draw.aspect))
        return factor * widens, factor / widens


class EvalTransformer(_CascadeTransformer):
    """The transformation of an EvalData layer; param: its eval_data_param.  The images are resized only."""

    def __init__(self, param, common, train, rng, gives_sizes: bool) -> None:
        super().__init__(param, common, train, rng)
        self.mirror, self._gives_sizes = False, gives_sizes

    def draws(self, count):
        return [Draw(*[0] * len(Draw._fields))] * count

    def resized_shape(self, shape, ratio=1.0):
        channels, *size = shape
        if fixed := self.fixed_size():
            size = fixed
        elif self.by_sides():
            factor = self.param.short_size / min(size)
            size = [min(round_half_up(side * factor), self.param.long_size) for side in size]
        return channels, *map(_multiple, size)

    def output_shape(self, shape, ratio=1.0):
        return self.resized_shape(shape)

    def factors(self, box, draw):
        return 1.0, 1.0

    def ignore(self, rows, size):
        pass

    def apply(self, images, labels, dtype, *others):
        tops = super().apply(images, labels, dtype, *others)
        sizes = np.tile(np.array(tops[0].shape[2:], dtype), (len(images), 1))
        return *tops, *([sizes[..., None, None]] if self._gives_sizes else [])


def _multiple(side: float) -> int:
    """Return the multiple of 32 that is nearest to the length of a side, at least 32."""
    return max(round_half_up(side / _STEP), 1) * _STEP


def _sides(short: int, long: int, tall: bool) -> tuple[int, int]:
    """Return the height and width of a tall or a wide image."""
    return (long, short) if tall else (short, long)


def _between(low: float, high: float, number: int) -> float:
    """Return a factor from low to high whose logarithm is evenly distributed; number: 32 random bits."""
    return low * (high / low) ** (number / _LONGEST)
