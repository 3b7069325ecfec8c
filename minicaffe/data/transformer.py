"""transform_param, applied to whole batches: crop, mirror, subtract the mean, scale.

    y = (x - mean) * scale

x is cropped, at a random position in TRAIN, in the centre in TEST; a mean image is cropped at the same position.  If
`mirror` is set, y is flipped left to right with probability 1/2, in both phases, as in the original.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.data.image import resize
from minicaffe.data.mean import read_mean
from minicaffe.errors import DataError
from minicaffe.limits import max_pixels
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import ResizeParameter

log = logging.getLogger("minicaffe.data")

Images = np.ndarray | Sequence[np.ndarray]  # (N, C, H, W), or N arrays (C, H, W) of different sizes
_CHUNK = 1 << 18  # values transformed at a time, so that they are still in the cache when they are flipped


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


class BatchTransformer:
    """The transformation of a TransformationParameter.

    param: the layer's transform_param.  train: whether crops are random.  rng: the layer's stream.
    DataError when the parameters contradict each other or the mean file cannot be read.
    """

    def __init__(self, param, train: bool, rng: Stream) -> None:
        if param.HasField("mean_file") and len(param.mean_value):
            raise DataError("transform_param: mean_file and mean_value cannot both be given")
        if param.force_color and param.force_gray:
            raise DataError("transform_param: force_color and force_gray cannot both be set")
        self.train, self.rng = train, rng
        self.scale, self.mirror = param.scale, param.mirror
        self.crop = (param.crop_h or param.crop_size, param.crop_w or param.crop_size)
        self.color = True if param.force_color else (False if param.force_gray else None)
        self.mean_file, self.mean = param.mean_file, None
        if param.HasField("mean_file"):
            log.info("Loading mean file from: %s", param.mean_file)
            self.mean = read_mean(param.mean_file)
        elif len(param.mean_value):
            self.mean = np.array(param.mean_value, np.float32)[:, None, None]
        self.resize_param: ResizeParameter | None = param.resize_param if param.HasField("resize_param") else None
        for name in ("noise_param", "distort_param", "expand_param", "emit_constraint"):
            if param.HasField(name):
                log.warning("transform_param: %s is not applied", name)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (C, H, W) of the transformed image, given that of the record.  DataError if it is too small."""
        if self.resize_param is not None:
            shape = (shape[0], *_resized(self.resize_param, *shape[1:]))
        return self._cropped(shape)

    def transform(self, images: Images, out: np.ndarray) -> None:
        """Write the transformed batch into `out`, (N, C, H', W').

        images: uint8 or float, one array (N, C, H, W), or a list of arrays (C, H, W), whose sizes may differ if there
            is a crop.
        DataError when an image does not have the output's shape after the crop, or the mean does not fit.
        """
        if self.resize_param is not None:
            images = _stacked([self._resize(self.resize_param, image) for image in images])
        if isinstance(images, np.ndarray):
            self._transform(images, out)
            return
        for index, image in enumerate(images):
            shape = self._cropped(image.shape)
            if shape != out.shape[1:]:
                need = "sizes need crop_size" if shape[0] == out.shape[1] else "channels need force_color or force_gray"
                raise DataError(
                    f"image {index} of the batch has shape {image.shape}, which gives {shape}, but the first "
                    f"image gave {out.shape[1:]}: images of different {need}"
                )
            self._transform(image[None], out[index : index + 1])

    def plan(self, count: int, height: int, width: int) -> Draws:
        """Draw the crop position and the flip of each of `count` images of height x width.

        If anything is random, three 32-bit numbers a, b, c per image are drawn from the stream: the first row is
        a (height - crop + 1) >> 32, the first column the same with b, and the lowest bit of c is the flip.
        """
        room_h = height - (self.crop[0] or height)
        room_w = width - (self.crop[1] or width)
        random_crop = self.train and bool(room_h or room_w)
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

    def check_mean(self, shape: Sequence[int]) -> None:
        """Raise DataError unless the mean fits images of shape (C, H, W)."""
        if self.mean is None:
            return
        if self.mean_file and self.mean.shape != tuple(shape):
            raise DataError(f"mean file {self.mean_file} has shape {self.mean.shape}, but the images {tuple(shape)}")
        if len(self.mean) not in (1, shape[0]):
            raise DataError(
                f"transform_param: mean_value must be given once or once per channel: "
                f"got {len(self.mean)} for {shape[0]} channels"
            )

    def _cropped(self, shape: Sequence[int]) -> tuple[int, int, int]:
        channels, height, width = shape
        crop_h, crop_w = self.crop
        if crop_h > height or crop_w > width:
            raise DataError(f"transform_param: crop {crop_h}x{crop_w} is larger than the image, {height}x{width}")
        return channels, crop_h or height, crop_w or width

    def _transform(self, images: np.ndarray, out: np.ndarray) -> None:
        count, channels, height, width = images.shape
        self.check_mean((channels, height, width))
        plan = self.plan(count, height, width)
        step = max(1, _CHUNK // max(1, out[0].size)) if plan.same_region else 1
        crop_h, crop_w = out.shape[2:]
        for start in range(0, count, step):
            top, left = plan.top[start], plan.left[start]
            region = np.s_[..., top : top + crop_h, left : left + crop_w]
            source, target = images[start : start + step][region], out[start : start + step]
            if self.mean is None:
                np.copyto(target, source, casting="unsafe")
            else:
                mean = self.mean[region] if self.mean_file else self.mean
                np.subtract(source, mean, out=target, casting="unsafe")
            if self.scale != 1:
                target *= self.scale
            flip = plan.flip[start : start + step]
            if flip.any():
                target[flip] = target[flip][..., ::-1]

    # -- resize_param, from the SSD fork ---------------------------------------------------------------------------

    def _resize(self, param: ResizeParameter, image: np.ndarray) -> np.ndarray:
        channels, height, width = image.shape
        if param.prob < 1 and self.rng.generator().random() >= param.prob:
            return image
        new_h, new_w = _resized(param, height, width)
        order = 1
        if len(param.interp_mode):
            modes = [{param.NEAREST: 0, param.CUBIC: 3, param.LANCZOS4: 3}.get(mode, 1) for mode in param.interp_mode]
            order = modes[int(self.rng.generator().integers(len(modes)))] if len(modes) > 1 else modes[0]
        if param.resize_mode != param.FIT_LARGE_SIZE_AND_PAD:
            return resize(image, new_h, new_w, order)
        scale = min(new_h / height, new_w / width)
        inner = resize(image, max(1, round(height * scale)), max(1, round(width * scale)), order)
        pads = [(0, 0)] + [
            ((new - old) // 2, (new - old + 1) // 2) for new, old in zip((new_h, new_w), inner.shape[1:], strict=True)
        ]
        if param.pad_mode != param.CONSTANT:
            return np.pad(inner, pads, "symmetric" if param.pad_mode == param.MIRRORED else "edge")
        values = list(param.pad_value) or [0]
        if len(values) not in (1, channels):
            raise DataError(f"resize_param: pad_value must be given once or once per channel, got {len(values)}")
        planes = zip(inner, values * (channels // len(values)), strict=True)
        return np.stack([np.pad(plane, pads[1:], constant_values=value) for plane, value in planes])


def _resized(param: ResizeParameter, height: int, width: int) -> tuple[int, int]:
    """Return height and width after resize_param.  DataError for a size that is not positive or too large."""
    new_h, new_w = param.height, param.width
    if not new_h or not new_w:
        raise DataError(f"resize_param: height and width must be positive, got {new_h} and {new_w}")
    if param.resize_mode == param.FIT_SMALL_SIZE:
        scale = max(new_h / height, new_w / width)
        new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    if new_h * new_w > max_pixels():
        raise DataError(
            f"resize_param: an image of {new_h}x{new_w} has more than {max_pixels()} pixels: "
            "the environment variable MINICAFFE_MAX_PIXELS raises this limit"
        )
    return new_h, new_w


def _stacked(images: list[np.ndarray]) -> Images:
    """Stack the images into one array if they all have one shape and type."""
    first = images[0]
    same = all(image.shape == first.shape and image.dtype == first.dtype for image in images)
    return np.stack(images) if same else images
