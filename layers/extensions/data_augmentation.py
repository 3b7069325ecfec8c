"""DataAugmentation: crops pictures, changes them at random, and subtracts their mean."""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.core.stored_weights import StoredArray
from minicaffe.data.warp import bilinear
from minicaffe.layers.shared.augmentation import (
    COEFFICIENTS,
    Draws,
    check_rows,
    from_row,
    given_rows,
    matrix,
    to_row,
)  # fmt: skip
from minicaffe.layers.shared.recoloring import CHROMATIC, EFFECTS, EIGEN, ColorSpace, changes, recolored, with_effects
from minicaffe.proto import TRAIN, caffe_pb2

_MARGIN = 1.05  #: positions are at most the width less this


@register("DataAugmentation")
class DataAugmentation(Layer):
    """y = x, cropped at its centre, or moved, turned and zoomed, with other colors, less the mean.

    Without crop_width and crop_height only the mean is subtracted.  In TEST nothing is drawn without
    augment_during_test; a bottom with coefficients holds in TEST, too.  The steps: positions, with linear
    interpolation; colors along their eigenvectors; gamma, brightness, contrast and factors of channels; a shadow and
    noise; the mean.

    bottoms: x, (N, C, H, W); optionally coefficients (N, 42, 1, 1), such as GenerateAugmentationParameters makes,
    instead of random ones.  None gets a gradient.  tops: y, (N, C, h, w); optionally the coefficients, (N, 42, 1, 1).
    blobs, not learned: the number of iterations; with recompute_mean also the mean of each place, (1, C, h, w), and of
    each channel, (1, C, 1, 1), of the tops of the first recompute_mean iterations in TRAIN.

    augmentation_param: crop_width, crop_height; the distributions; max_multiplier, the largest color after a change
        (255); chromatic_eigvec, nine numbers, for changes along eigenvectors; recompute_mean (0); mean_per_pixel (true;
        false: the mean of each channel is subtracted, or the three of `mean`).
    coeff_schedule_param: half_life, initial_coeff and final_coeff of the factor of the spreads.
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    fork = "FlowNet 2.0"
    param_field = "augmentation_param"
    more_params = ("coeff_schedule_param",)
    family = "data"
    min_bottom, max_bottom = 1, 2
    min_top, max_top = 1, 2
    no_gradient = (0, 1)
    learns = False
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return not self.draws_now and not self.given  # which may ask for noise

    def setup(self, bottom, top):
        self.param = param = self.layer_param.augmentation_param
        self.draws = Draws(self)
        self.crops = param.HasField("crop_width") and param.HasField("crop_height")
        self.given = len(bottom) > 1  # coefficients
        self.draws_now = self.crops and not self.given and (self.phase == TRAIN or param.augment_during_test)
        if len(param.chromatic_eigvec) not in (0, 9):
            raise self.error(f"chromatic_eigvec must have 9 numbers, got {len(param.chromatic_eigvec)}")
        for i in range(3 if param.recompute_mean else 1):
            if len(self.layer_param.param) == i:
                self.layer_param.param.add(lr_mult=0, decay_mult=0)

    def param_shapes(self, bottom_shapes):
        zero = caffe_pb2.FillerParameter(type="constant")
        shape = self.top_shapes(bottom_shapes)[0]
        means = [((1, *shape[1:]), zero), ((1, shape[1], 1, 1), zero)] if self.param.recompute_mean else []
        return [((1, 1, 1, 1), zero), *means]

    def top_shapes(self, bottom_shapes):
        x, *given = bottom_shapes
        if len(x) != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {x}")
        for shape in given:
            check_rows(self, 1, shape, x[0])
        size = (self.param.crop_height, self.param.crop_width) if self.crops else x[2:]
        if not (0 < size[0] <= x[2] and 0 < size[1] <= x[3]):
            raise self.error(f"the crop of height and width {tuple(size)} must be in bottom 0, got {x}")
        return [(*x[:2], *size), (x[0], len(COEFFICIENTS), 1, 1)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        used = self.param.recompute_mean and (self.param.mean_per_pixel or self.phase == TRAIN)
        if used and self.blobs[1].shape[1:] != top[0].shape[1:]:
            raise self.error(f"the mean of places is of {self.blobs[1].shape[1:]}, got pictures {top[0].shape[1:]}")

    def adapted(self, stored):
        """The mean of places of a file whose crops have another size is replaced by that of the channels."""
        if len(stored) < 3 or len(self.blobs) < 3 or stored[1].fits(self.blobs[1].shape):
            return stored
        means = stored[1 if self.param.mean_per_pixel else 2].values().reshape(1, self.blobs[2].shape[1], -1).mean(2)
        of_places = np.broadcast_to(means[..., None, None], self.blobs[1].shape)
        return stored | {1: StoredArray(of_places), 2: StoredArray(means[..., None, None])}

    def forward_cpu(self, bottom, top):
        x, y, generator = bottom[0].read_data(), top[0].data, self.rng.generator()
        if self.phase == TRAIN:
            self.blobs[0].data[...] += 1
        rows = given_rows(self, 1, bottom[1]) if len(bottom) > 1 else self._rows(x.shape, y.shape, generator)
        for blob in top[1:]:
            blob.data[...] = np.reshape(rows, blob.shape)
        if self.crops:
            coefficients = [from_row(row) for row in rows]
            colors = self._colors(x, coefficients)
            for n, k in enumerate(coefficients):
                y[n] = self._changed(x[n], k, y.shape[2:], colors, generator)
        else:
            y[...] = x
        self._subtract_mean(y)

    def _rows(self, shape, crop, generator) -> np.ndarray:
        rows = np.zeros((shape[0], len(COEFFICIENTS)))
        if not self.draws_now:
            return rows
        factor = self.draws.factor(int(self.blobs[0].read_data().item()))
        for n, row in enumerate(rows):
            moved = self.draws.spatial(generator, factor, row, shape[2:], crop[2:])
            rows[n] = moved + to_row(self.draws.others(generator, factor))
        return rows

    def _colors(self, x, coefficients) -> ColorSpace | None:
        """The distribution of colors, if a sample needs it."""
        if x.shape[1] != 3 and any(changes(k, CHROMATIC + EIGEN + EFFECTS) for k in coefficients):
            raise self.error(f"changes of colors need bottom 0 with 3 channels, got {x.shape}")
        if not any(changes(k, EIGEN) for k in coefficients):
            return None
        if not self.param.chromatic_eigvec:
            raise self.error("changes along eigenvectors of colors need chromatic_eigvec")
        return ColorSpace.of(x, np.reshape(self.param.chromatic_eigvec, (3, 3)))

    def _changed(self, picture, k, crop, colors, generator) -> np.ndarray:
        picture, most = sampled(picture, matrix(k, picture.shape[1:], crop), crop), self.param.max_multiplier
        if colors is not None:
            picture = colors.changed(picture, k, most)
        if changes(k, CHROMATIC):
            picture = recolored(picture, k, most)
        return with_effects(picture, k, most, generator) if changes(k, EFFECTS) else picture

    def _subtract_mean(self, y) -> None:
        if self.param.recompute_mean:
            count, places, channels = (blob.read_data() for blob in self.blobs)
            if self.phase == TRAIN and len(y) and count.item() <= self.param.recompute_mean:
                self.blobs[1].data[...] = places = places + (y.mean(0) - places) / count.item()
                self.blobs[2].data[...] = channels = places.mean((2, 3), keepdims=True)
            y -= places if self.param.mean_per_pixel else channels
        elif len(self.param.mean) == 3 and not self.param.mean_per_pixel:
            y -= np.array(self.param.mean, self.dtype)[:, None, None]


def sampled(picture: np.ndarray, position: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """Return the values at the positions of the places of a crop, by linear interpolation, clamped to the picture."""
    rows, columns = np.indices(crop)
    places = np.stack([columns, rows, np.ones(crop)])
    at = [
        np.clip(np.tensordot(line, places, 1), 0, max(size - _MARGIN, 0))
        for line, size in zip(position, picture.shape[:0:-1])
    ]
    return bilinear(picture, *at)
