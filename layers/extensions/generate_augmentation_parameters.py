"""GenerateAugmentationParameters: random changes of pictures, for DataAugmentation and FlowAugmentation."""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.augmentation import COEFFICIENTS, DEFAULTS, SPATIAL, Draws, from_row, schedule, to_row
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
        self.draws = Draws(self, param)
        if len(bottom) == 2:
            raise self.error("takes no bottom, one, or three (coefficients, pictures, crops), got 2")
        if param.mode not in _MODES:
            raise self.error(f'mode must be "add", "replace" or "regenerate", got "{param.mode}"')
        if self.layer_param.coeff_schedule_param.half_life <= 0:
            raise self.error("half_life must be above 0")
        self.draws_now = self.phase == TRAIN or param.augment_during_test

    def top_shapes(self, bottom_shapes):
        if self._has_coefficients(bottom_shapes) and np.prod(bottom_shapes[0][1:]) != len(COEFFICIENTS):
            raise self.error(f"bottom 0 must be coefficients (N, {len(COEFFICIENTS)}, 1, 1), got {bottom_shapes[0]}")
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
        rows = bottom[0].read_data().reshape(len(top[0].data), -1) if keep else np.zeros(top[0].shape[:2])
        if self.draws_now:
            self.passes += 1
            factor = schedule(self.layer_param.coeff_schedule_param, self.passes)
            generator = self.rng.generator()
            rows = [self._changed(row.astype(float), generator, factor) for row in rows]
        top[0].data[...] = np.reshape(rows, top[0].shape)

    def _changed(self, row: np.ndarray, generator: np.random.Generator, factor: float) -> np.ndarray:
        replace = self.param.mode == "replace"
        if replace and self.draws.given(SPATIAL):
            row = to_row(from_row(row) | {name: DEFAULTS[name] for name in _MOVES})
        row = self.draws.spatial(generator, factor, row, self.size, self.crop)
        drawn = self.draws.others(generator, factor)
        return to_row(from_row(row) | drawn) if replace else row + to_row(drawn)
