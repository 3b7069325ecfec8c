"""transform_param, applied to whole batches: crop, mirror, subtract the mean, scale.

    y = (x - mean) * scale

x is cropped, at a random position in TRAIN, in the centre in TEST; a mean image is cropped at the same position, but in
the centre where images have random sizes.  If `mirror` is set, y is flipped left to right with probability 1/2, in both
phases, as in the original.

Of forks, in both phases: one of several resize_param, and noise_param, is drawn for each image; random_crop_on_test;
vertical_mirror and random_90_deg_rot turn y after all else (ducha-aiki's).  random_resize_param,
random_aspect_ratio_param; pad, zeros around y (Intel's).  img_rand_resize, rand_resize_ratio, vertical_stretch and
horizontal_stretch (NVIDIA's).

TSN's, of which the first are for TRAIN only: crops as scaled_crop.py draws them; is_flow, with which channels 0, 2, ...
of a flipped image are 255 - x.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.data.choice import Choice
from minicaffe.data.geometry import Geometry
from minicaffe.data.mean import read_mean
from minicaffe.data.noise import Noise
from minicaffe.data.random_size import random_size_of
from minicaffe.data.resize_param import Resizer
from minicaffe.data.scaled_crop import scaled_crop
from minicaffe.data.turns import Turns
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto.further import all_values

log = logging.getLogger("minicaffe.data")

Images = np.ndarray | Sequence[np.ndarray]  # (N, C, H, W), or N arrays (C, H, W) of different sizes
Labels = np.ndarray | Sequence[np.ndarray]  # (N,) float32, or N arrays (n, 7) of annotated boxes, see box_rows.py
Name = Callable[[int], str]  # the name of an image of a batch, by its number, for messages
NUMBERED: Name = "image {} of the batch".format
_SAME_CHANNELS = "channels need force_color: true or force_gray: true in transform_param, which decode encoded records"
_CHUNK = 1 << 18  # values that one thread transforms at a time, so that they are still in the cache for the next step


@dataclass
class Draws:
    """Crop position and flip of each image of a batch; drawn before the transformation, which may be a GPU kernel."""

    top: np.ndarray  #: (N,) first row
    left: np.ndarray  #: (N,) first column
    flip: np.ndarray  #: (N,) bool

    @property
    def same_region(self) -> bool:
        """Whether all images are cropped at the same position."""
        return bool((self.top == self.top[0]).all() and (self.left == self.left[0]).all())

    @classmethod
    def joined(cls, parts: Sequence[Draws]) -> Draws:
        """Return the draws of all images of the parts."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("top", "left", "flip")))

    def __getitem__(self, rows: slice) -> Draws:
        """Return the draws of some of the images."""
        return Draws(self.top[rows], self.left[rows], self.flip[rows])


def crop_of(param) -> tuple[int, int]:
    """Return the height and the width to which a TransformationParameter crops; 0: not cropped."""
    height, width = param.crop_h or param.crop_height, param.crop_w or param.crop_width
    return height or param.crop_size, width or param.crop_size


class BatchTransformer:
    """The transformation of a TransformationParameter.

    param: the layer's transform_param.  train: whether crops are random.  rng: the layer's stream.
    DataError when the parameters contradict each other or the mean file cannot be read.
    """

    augmentations: tuple[str, ...] = ()  #: what happens to an image before it is resized, in words
    #: fields of transform_param that have no effect: boxes, and what happens to images with boxes, are AnnotatedData's
    not_applied: tuple[str, ...] = ("distort_param", "expand_param", "emit_constraint")

    def __init__(self, param, train: bool, rng: Stream) -> None:
        if param.HasField("mean_file") and len(param.mean_value):
            raise DataError("transform_param: mean_file and mean_value cannot both be given")
        if param.force_color and param.force_gray:
            raise DataError("transform_param: force_color and force_gray cannot both be set")
        self.train, self.rng = train, rng
        self.scale, self.mirror = param.scale, param.mirror
        self.crop = crop_of(param)
        self.color = True if param.force_color else (False if param.force_gray else None)
        self.mean_file, self.mean = param.mean_file, None
        if param.HasField("mean_file"):
            log.info("Loading mean file from: %s", param.mean_file)
            self.mean = self.read_mean(param.mean_file)
        elif len(param.mean_value):
            self.mean = np.array(param.mean_value, np.float32)[:, None, None]
        self.scaled_crop = scaled_crop(param, self.crop) if train else None
        self.is_flow = param.is_flow and param.mirror
        if self.is_flow and param.HasField("mean_file"):
            raise DataError("transform_param: is_flow with mirror needs mean_value instead of mean_file")
        self._random_crop = train or param.random_crop_on_test
        self._turns = Turns(param)
        self._resizers, self._noises = _choice(Resizer, param, "resize_param"), _choice(Noise, param, "noise_param")
        self.random_size, self._pad = random_size_of(param, self.crop), param.pad
        self.geometry = Geometry(param.geometry_param) if param.geometry_param.prob > 0 else None
        self._mean_of_crop = self.random_size is not None and bool(self.mean_file)
        if self._mean_of_crop and self.mean is not None:
            self.mean = self._centre_of(self.mean)
        self.resizer = self._resizers.policies[0] if self._resizers else None
        self.noise = self._noises.policies[0] if self._noises else None
        for name in self.not_applied:
            if param.HasField(name):
                log.warning("transform_param: %s is applied by layers of type AnnotatedData only", name)

    def resized_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (C, H, W) of the resized image, which the mean must fit, given that of the record.

        Of a random size it is at least that of the crop, which is returned.
        """
        channels, height, width = shape
        if self.random_size and self.resizer is None:
            return channels, *self.crop
        return (channels, height, width) if self.resizer is None else (channels, *self.resizer.size(height, width))

    @property
    def on_host_only(self) -> bool:
        """Whether a step of the transformation has no GPU kernel."""
        steps = self.random_size, self.resizer, self.noise, self._pad, self.scaled_crop, self.is_flow
        return any((*steps, self.geometry, self._turns))

    def read_mean(self, path: str) -> np.ndarray:
        """Return the mean image of a file, (C, H, W)."""
        return read_mean(path)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (C, H, W) of the transformed image, given that of the record.  DataError if it is too small."""
        channels, height, width = self._cropped(self.resized_shape(shape))
        return channels, height + 2 * self._pad, width + 2 * self._pad

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, ...]:
        """Return the transformed batch, (N, C, H', W') in `dtype`, and its labels, (N,); see `transform`."""
        assert isinstance(labels, np.ndarray)  # boxes are for another transformer
        out = np.empty((len(images), *self.output_shape(images[0].shape)), dtype)
        self.transform(images, out, each, name)
        return out, labels

    def drawing_from(self, rng: Stream) -> BatchTransformer:
        """Return the same transformation with another stream of random numbers."""
        other = copy.copy(self)
        other.rng = rng
        return other

    def transform(self, images: Images, out: np.ndarray, each: Each = in_turn, name: Name = NUMBERED) -> Draws:
        """Write the transformed batch into `out`, (N, C, H', W'); return the crop and flip of each image.

        images: uint8 or float, one array (N, C, H, W), or a list of arrays (C, H, W), whose sizes may differ if there
            is a crop.
        each: how the work is distributed (default: it is not); everything random is drawn before.
        name: gives the name of an image, for errors.
        DataError when an image does not have the output's shape after the crop, or the mean does not fit.
        """
        if self._pad:
            out[...] = 0
            out = out[..., self._pad : -self._pad, self._pad : -self._pad]
        if self.on_host_only:
            images = self._prepared(images, each)
        if isinstance(images, np.ndarray):
            count, *shape = images.shape
            self.check_mean(shape, name)
            draws, step = self.plan(count, *shape[1:]), max(1, _CHUNK // max(1, out[0].size))
            parts = [(images[i : i + step], out[i : i + step], draws[i : i + step]) for i in range(0, count, step)]
        else:
            plans = [self._plan_one(i, image, out, name) for i, image in enumerate(images)]
            parts = [(image[None], out[i : i + 1], plan) for i, (image, plan) in enumerate(zip(images, plans))]
            draws = Draws.joined(plans)
        turns = self._turns.draw(self.rng, out) if self._turns else None
        each(lambda i: self._write(*parts[i]), len(parts))
        if self.is_flow:
            self._reverse_flow(out, draws.flip)
        if turns is not None:
            each(lambda i: self._turns.turn(out[i], *turns[i]), len(out))
        return draws

    def mean_in_words(self) -> str:
        """Return "minus the mean FILE", or with the values of the channels; "" without a mean."""
        if self.mean is None:
            return ""
        return f"minus the mean {self.mean_file or ', '.join(f'{value:g}' for value in self.mean.ravel())}"

    def restore(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture (C, H, W) with scale and mean undone: the values of its record, cropped, float32.

        A mean image is that of the crop in the centre, as in TEST; with `mirror`, whose flips are not known any more,
        the average of it and its mirror image.
        """
        values = picture.astype(np.float32) / np.float32(self.scale or 1)
        if self.mean is None or not self.mean_file:
            return values if self.mean is None else values + self.mean
        top, left = ((size - crop) // 2 for size, crop in zip(self.mean.shape[1:], values.shape[1:]))
        mean = self.mean[:, top : top + values.shape[1], left : left + values.shape[2]]
        return values + ((mean + mean[..., ::-1]) / 2 if self.mirror else mean)

    def _prepared(self, images: Images, each: Each) -> Images:
        """Return the images resized and with noise, where the parameters have them."""
        count, prepared, draw_size = len(images), list(images), self.random_size
        whole = [draw_size.draw(self.rng, *image.shape[1:]) for image in images] if draw_size else []
        resizers = [self._resizers.draw(self.rng) for _ in range(count)] if self._resizers else []
        sizes = [resizer.draw(self.rng) for resizer in resizers]
        noises = [self._noises.draw(self.rng) for _ in range(count)] if self._noises else []
        seeds = [noise.draw(self.rng) for noise in noises]
        crop, places = self.scaled_crop, []
        if crop:
            shapes = [each.size for each in whole] or [image.shape[1:] for image in images]
            shapes = [resizer.size(*shape) for resizer, shape in zip(resizers, shapes)] or shapes
            places = [crop.draw(self.rng, *shape) for shape in shapes]

        def prepare(i: int) -> None:
            image = whole[i](prepared[i]) if whole else prepared[i]
            image = resizers[i](image, sizes[i]) if resizers else image
            image = noises[i](image, seeds[i]) if noises else image
            prepared[i] = crop(image, places[i]) if crop else image

        each(prepare, count)
        if self.geometry is not None:
            prepared, _ = self.geometry.views(self.rng, prepared, [], each)
        return stacked(prepared)

    def _reverse_flow(self, out: np.ndarray, flip: np.ndarray) -> None:
        """Make 255 - x of x in channels 0, 2, ... of the images that are flipped; `out` is (x - mean) * scale."""
        twice = 2 * self.mean if self.mean is not None else np.zeros((1, 1, 1), np.float32)
        offset = (255 - np.broadcast_to(twice, (out.shape[1], 1, 1))[::2]) * np.float32(self.scale)
        out[flip, ::2] = offset - out[flip, ::2]

    def _plan_one(self, index: int, image: np.ndarray, out: np.ndarray, name: Name) -> Draws:
        """Draw for one image of a list; DataError unless its size after the crop is that of the batch."""
        shape = self._cropped(image.shape)
        if shape != out.shape[1:]:
            need = "sizes need crop_size" if shape[0] == out.shape[1] else _SAME_CHANNELS
            raise DataError(
                f"{name(index)} has shape {image.shape}, which gives {shape}, but "
                f"{name(0)} gave {out.shape[1:]}: images of different {need}"
            )
        self.check_mean(image.shape, lambda _: name(index))
        return self.plan(1, *image.shape[1:])

    def plan(self, count: int, height: int, width: int) -> Draws:
        """Draw the crop position and the flip of each of `count` images of height x width.

        If anything is random, three 32-bit numbers a, b, c per image are drawn from the stream: the first row is
        a (height - crop + 1) >> 32, the first column the same with b, and the lowest bit of c is the flip.
        """
        room_h = height - (self.crop[0] or height)
        room_w = width - (self.crop[1] or width)
        random_crop = self._random_crop and bool(room_h or room_w)
        top: np.ndarray = np.full(count, room_h // 2)
        left: np.ndarray = np.full(count, room_w // 2)
        flip: np.ndarray = np.zeros(count, bool)
        if random_crop or self.mirror:
            draws = self.rng.uniform_u32(3 * count).reshape(count, 3).astype(np.uint64)
            if random_crop:
                top = (draws[:, 0] * np.uint64(room_h + 1) >> np.uint64(32)).astype(np.intp)
                left = (draws[:, 1] * np.uint64(room_w + 1) >> np.uint64(32)).astype(np.intp)
            if self.mirror:
                flip = (draws[:, 2] & np.uint64(1)).astype(bool)
        return Draws(top, left, flip)

    def check_mean(self, shape: Sequence[int], name: Name = lambda _: "the image") -> None:
        """Raise DataError unless the mean fits images of shape (C, H, W).

        name: gives the name of image 0, one of them, for the error.
        """
        if self.mean is None:
            return
        of_gray = ""
        if shape[0] == 1 and len(self.mean) == 3:
            of_gray = (
                f": {name(0)} is gray, and there are 3 channels with force_color: true in transform_param, if records "
                "are encoded, and with is_color: true in ImageData"
            )
        if self.mean_file and self.mean.shape != (self._cropped(shape) if self._mean_of_crop else tuple(shape)):
            raise DataError(
                f"mean file {self.mean_file} has shape {self.mean.shape}, but the images {tuple(shape)}{of_gray}"
            )
        if len(self.mean) not in (1, shape[0]):
            raise DataError(
                f"transform_param: mean_value must be given once or once per channel: "
                f"got {len(self.mean)} for {shape[0]} channels{of_gray}"
            )

    def _centre_of(self, mean: np.ndarray) -> np.ndarray:
        """Return the part of a mean image in its centre that has the size of the crop."""
        size = mean.shape[-2:]
        if any(whole < crop for whole, crop in zip(size, self.crop)):
            raise DataError(
                f"mean file {self.mean_file} has shape {mean.shape}, smaller than the crop, {tuple(self.crop)}"
            )
        top, left = ((whole - crop) // 2 for whole, crop in zip(size, self.crop))
        return mean[..., top : top + self.crop[0], left : left + self.crop[1]]

    def _cropped(self, shape: Sequence[int]) -> tuple[int, int, int]:
        channels, height, width = shape
        crop_h, crop_w = self.crop
        if crop_h > height or crop_w > width:
            raise DataError(f"transform_param: crop {crop_h}x{crop_w} is larger than the image, {height}x{width}")
        return channels, crop_h or height, crop_w or width

    def _write(self, images: np.ndarray, out: np.ndarray, draws: Draws) -> None:
        """Transform a few images (N, C, H, W): all at once if they are cropped alike, otherwise one by one."""
        top, left, flip = draws.top.tolist(), draws.left.tolist(), draws.flip.tolist()
        if draws.same_region and (len(images) > 1 or not flip[0]):
            self._crop(images, out, top[0], left[0], False)
            if any(flip):
                out[draws.flip] = out[draws.flip, ..., ::-1]
        else:
            for i, image in enumerate(images):
                self._crop(image, out[i], top[i], left[i], flip[i])
        if self.scale != 1:
            out *= self.scale

    def _crop(self, images: np.ndarray, out: np.ndarray, top: int, left: int, flip: bool) -> None:
        """Write the crop at (top, left), minus the mean, into `out`: (C, H, W), or as many as there are images."""
        bottom, right = top + out.shape[-2], left + out.shape[-1]
        source = images[..., top:bottom, left:right]
        if self.mean is None:
            np.copyto(out[..., ::-1] if flip else out, source, casting="unsafe")
            return
        mean = self.mean[:, top:bottom, left:right] if self.mean_file and not self._mean_of_crop else self.mean
        if flip:  # in two steps: a copy is fast in reverse order, arithmetic is not
            out[..., ::-1] = np.subtract(source, mean)
        else:
            np.subtract(source, mean, out=out, casting="unsafe")


def _choice(kind: Callable, param, name: str) -> Choice | None:
    """Return the policies of a field that may be repeated, made by `kind`; None without any."""
    values = all_values(param, name)
    return Choice([kind(value) for value in values], [value.prob for value in values], name) if values else None


def stacked(images: list[np.ndarray]) -> Images:
    """Stack the images into one array if they all have one shape and type."""
    first = images[0]
    same = all(image.shape == first.shape and image.dtype == first.dtype for image in images)
    return np.stack(images) if same else images
