"""The transformation of images with label maps: scaled, padded, cropped and flipped alike; the mean is the images'."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.data.image import resize
from minicaffe.data.transformer import NUMBERED, BatchTransformer, Draws, Images, Labels, Name
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.philox import Stream


class MapRules(NamedTuple):
    """What a type of layer does to images and maps besides transform_param.

    crop: (height, width), 0: not cropped.  mirror: whether a batch is flipped at random.
    random_crop: whether crops are at random in TEST, too.
    scale_factors: one of which is drawn in TRAIN for each image; ().
    fill: images smaller than the crop are padded at the bottom and at the right, with the mean, and their maps with
        this label; None: crops must fit into the images.
    label_divisor: by which the height and width of the map are divided at the end.
    """

    crop: tuple[int, int]
    mirror: bool
    random_crop: bool = False
    scale_factors: tuple[float, ...] = ()
    fill: int | None = None
    label_divisor: int = 1


class MapTransformer(BatchTransformer):
    """The transformation of layers whose labels are maps.

    param: their transform_param, of which mean, scale and, as `rules` repeats them, crop and mirror count.
    train, rng: as for `BatchTransformer`.
    DataError as for `BatchTransformer`, and for a map of another size than its image.
    """

    not_applied = (
        *BatchTransformer.not_applied, "resize_param", "noise_param", "force_color", "force_gray",
    )  # fmt: skip
    on_host_only = True  # type: ignore[assignment]  # of any parameters

    def __init__(self, param, rules: MapRules, train: bool, rng: Stream) -> None:
        super().__init__(param, train or rules.random_crop, rng)
        self.resizer = self.noise = None
        self.crop, self.mirror, self.rules = rules.crop, rules.mirror, rules
        self._factors = rules.scale_factors if train else ()

    def output_shape(self, shape):
        channels, height, width = shape
        return super().output_shape((channels, *self._padded(height, width)))

    def map_shape(self, image: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the shape of the maps, given that of the transformed images (N, C, H, W)."""
        return image[0], 1, image[2] // self.rules.label_divisor, image[3] // self.rules.label_divisor

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, ...]:
        """Return the transformed images (N, C, H, W), the maps (N, 1, h, w), and (N, 1, 1, 2): height and width of what
        is not padding.

        labels: a map (1, H, W) for each image; or numbers (N,), the label of all of its pixels.
        """
        factors = [self._draw_factor() for _ in images]
        sizes = [self._scaled(images[i].shape[1:], factor) for i, factor in enumerate(factors)]
        shape = self.output_shape((len(images[0]), *sizes[0]))
        out, maps = np.empty((len(images), *shape), dtype), np.empty((len(images), 1, *shape[1:]), dtype)
        draws = [self._plan_map(i, images[i], labels[i], sizes[i], shape, name) for i in range(len(images))]

        def change(i: int) -> None:
            self._write_pair(images[i], labels[i], sizes[i], draws[i], out[i], maps[i])

        each(change, len(images))
        seen = np.minimum(np.array(sizes, dtype), shape[1:]).reshape(-1, 1, 1, 2)
        if self.rules.label_divisor > 1:
            _, _, height, width = self.map_shape(out.shape)
            maps = np.stack([resize(one, height, width, "NEAREST") for one in maps.astype(np.float32)])
        return out, maps.astype(dtype, copy=False), seen.astype(dtype, copy=False)

    def _draw_factor(self) -> float:
        factors = self._factors
        return factors[int(self.rng.generator().integers(len(factors)))] if factors else 1.0

    @staticmethod
    def _scaled(size: tuple[int, ...], factor: float) -> tuple[int, int]:
        height, width = (max(1, int(length * factor)) for length in size)
        return height, width

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        return (height, width) if self.rules.fill is None else (max(height, self.crop[0]), max(width, self.crop[1]))

    def _plan_map(self, index: int, image, labels, size, shape, name: Name) -> Draws:
        """Draw for one image of a batch; DataError unless it and its map have the sizes that the batch needs."""
        if labels.ndim and labels.shape[1:] != image.shape[1:]:
            raise DataError(
                f"{name(index)} must have a label map of its own size, {_size(image.shape)}, got {_size(labels.shape)}"
            )
        own = self.output_shape((len(image), *size))
        if own != shape:
            raise DataError(
                f"{name(index)} gives {_size(own)} with {own[0]} channels, but {name(0)} gave {_size(shape)} with "
                f"{shape[0]}: images of different sizes need a crop, or new_height and new_width"
            )
        self.check_mean((len(image), *size), lambda _: name(index))
        return self.plan(1, *self._padded(*size))

    def _write_pair(self, image, labels, size, draws: Draws, out: np.ndarray, maps: np.ndarray) -> None:
        """Transform one image into `out` (C, H, W) and its map into `maps` (1, H, W), where there is no padding."""
        height, width = (min(length, whole) for length, whole in zip(size, out.shape[1:]))
        top, left = int(draws.top[0]), int(draws.left[0])
        labels = np.broadcast_to(labels, (1, *image.shape[1:]))
        if size != image.shape[1:]:
            image, labels = (
                resize(image, size[0], size[1]),
                resize(labels.astype(np.float32), size[0], size[1], "NEAREST"),
            )
        if (height, width) != out.shape[1:]:
            out[...], maps[...] = 0, self.rules.fill
        flipped = draws.flip[0]
        image_out, maps_out = ((each[..., ::-1] if flipped else each)[:, :height, :width] for each in (out, maps))
        self._crop(image, image_out, top, left, False)
        maps_out[...] = labels[:, top : top + height, left : left + width]
        if self.scale != 1:
            out *= self.scale


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[-2]}x{shape[-1]}"
