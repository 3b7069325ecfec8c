"""GenerateAugmentationParameters: random changes of pictures, for DataAugmentation and FlowAugmentation."""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.augmentation import (
    COEFFICIENTS,
    DEFAULTS,
    SPATIAL,
    Draws,
    check_rows,
    from_row,
    given_rows,
    to_row,
)  # fmt: skip
from minicaffe.layers.shared.passes import CountsPasses
from minicaffe.proto import TRAIN

_MODES = ("add", "replace", "regenerate")
_MOVES = COEFFICIENTS[:6]  # the spatial coefficients


@register("GenerateAugmentationParameters")
class GenerateAugmentationParameters(CountsPasses):
    """y = coefficients of random changes, drawn for each sample; in TEST those that are given, or none.

    bottoms: none; a blob (N, C, H, W) of pictures, or (N, 42, 1, 1) of coefficients; or coefficients, pictures of the
    original size and of that of the crop.  None gets a gradient.
    top: (N, 42, 1, 1), see minicaffe/layers/shared/augmentation.py.

    augmentation_param: the distributions; augment_during_test; mode: "add" to the given coefficients, "replace" those
        that are drawn, or "regenerate" all (always, if none are given); crop_width, crop_height, bottomwidth,
        bottomheight and num, where no bottom has them.
    coeff_schedule_param: half_life, initial_coeff and final_coeff of the factor of the spreads.
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    fork = "FlowNet 2.0"
    param_field = "augmentation_param"
    more_params = ("coeff_schedule_param",)
    family = "data"
    exact_num_top = 1
    max_bottom = 3
    no_gradient = (0, 1, 2)
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return not self.draws_now

    def setup(self, bottom, top):
        self.param = param = self.layer_param.augmentation_param
        self.draws = Draws(self)
        if len(bottom) == 2:
            raise self.error("takes no bottom, one, or three (coefficients, pictures, crops), got 2")
        if param.mode not in _MODES:
            raise self.error(f'mode must be "add", "replace" or "regenerate", got "{param.mode}"')
        self.draws_now = self.phase == TRAIN or param.augment_during_test

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if i == 0 and self._has_coefficients(bottom_shapes):
                check_rows(self, 0, shape, *shape[:1] or (1,))
            elif len(shape) != 4:
                raise self.error(f"bottom {i} must be pictures (N, C, H, W), got {shape}")
        samples = bottom_shapes[0][0] if bottom_shapes else self.param.num
        if samples < 1:
            raise self.error("num, or the first axis of bottom 0, must be above 0")
        return [(samples, len(COEFFICIENTS), 1, 1)]

    @staticmethod
    def _has_coefficients(shapes) -> bool:
        return len(shapes) == 3 or (len(shapes) == 1 and all(n == 1 for n in shapes[0][2:]))

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        shapes, param = [blob.shape for blob in bottom], self.param
        crop, size = (param.crop_height, param.crop_width), (param.bottomheight, param.bottomwidth)
        if len(bottom) == 3:
            size, crop = shapes[1][2:], shapes[2][2:]
        elif bottom and not self._has_coefficients(shapes):
            size = shapes[0][2:]
        self.size, self.crop = size, crop
        if self.draws_now and self.draws.given(SPATIAL) and 0 in (*size, *crop):
            raise self.error(f"sizes of pictures and crop must be given for spatial changes, got {size} and {crop}")

    def forward_cpu(self, bottom, top):
        keep = self._has_coefficients([blob.shape for blob in bottom]) and self.param.mode != "regenerate"
        rows = given_rows(self, 0, bottom[0]) if keep else np.zeros(top[0].shape[:2])
        if self.draws_now:
            self.passes += 1
            factor = self.draws.factor(self.passes)
            generator = self.rng.generator()
            rows = np.stack([self._changed(row, generator, factor) for row in rows])
        top[0].data[...] = rows.reshape(top[0].shape)

    def _changed(self, row: np.ndarray, generator: np.random.Generator, factor: float) -> np.ndarray:
        replace = self.param.mode == "replace"
        if replace and self.draws.given(SPATIAL):
            row = to_row(from_row(row) | {name: DEFAULTS[name] for name in _MOVES})
        row = self.draws.spatial(generator, factor, row, self.size, self.crop)
        drawn = self.draws.others(generator, factor)
        return to_row(from_row(row) | drawn) if replace else row + to_row(drawn)
