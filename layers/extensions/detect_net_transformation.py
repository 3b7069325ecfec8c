"""DetectNetTransformation: changes images and their boxes at random, and makes a grid of labels of the boxes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.data.image import resize
from minicaffe.data.mean import read_mean
from minicaffe.data.warp import bilinear
from minicaffe.errors import DataError
from minicaffe.layers.shared.coverage import Coverage
from minicaffe.layers.shared.views import truncated
from minicaffe.proto import TRAIN

_ROW = 16  #: numbers of a box


class Change(NamedTuple):
    """What is done to an image: in this order, with its size (height, width) after scaling, and the crop's corner."""

    hue: float
    saturation: float
    flip: bool
    size: tuple[int, int]
    angle: float
    corner: tuple[int, int]


@register("DetectNetTransformation")
class DetectNetTransformation(Layer):
    """In TRAIN images are recolored, flipped, scaled, rotated and cropped at random, in TEST scaled to the image size.

    The label of a cell of the grid of side stride: channel 0 whether an object covers it; 1 to 4 the corners of its
    box, relative to the cell's, in pixels; 5 and 6 one over width and height; 7 stride^2 over the area that counts (at
    least 1 without obj_norm); from 8 on 1 at its class.  Later boxes replace earlier ones.

    bottoms: images, (N, 3, H, W), 0 to 255; boxes, (N, 1, R, 16): row 0 has their number and 16, the other rows x, y,
    width, height, alpha, class, ... in pixels.  None gets a gradient.
    tops: images, (N, 3, image_size_y, image_size_x); labels, (N, 8 + classes, image_size_y / stride, image_size_x /
    stride)

    detectnet_groundtruth_param: the image size, the grid, object_class (src to dst; 1 to 0), and which part of a box
        counts: scale_cvg (0.5) of its size, with GRIDBOX_MAX at most max_cvg_len, with GRIDBOX_MIN at least
        min_cvg_len, but not more than the box.  detectnet_augmentation_param: the probabilities and ranges.
    transform_param: mean_value, one or three, or mean_file, at any size.
    Source: NVIDIA, DetectNet, 2016.
    """

    fork = "NVIDIA"
    param_field = "detectnet_groundtruth_param"
    more_params = ("detectnet_augmentation_param", "transform_param")
    family = "data"
    exact_num_bottom = exact_num_top = 2
    no_gradient = (0, 1)
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    def setup(self, bottom, top):
        self.random, common = self.layer_param.detectnet_augmentation_param, self.layer_param.transform_param
        self.coverage = Coverage(self, self.layer_param.detectnet_groundtruth_param)
        self.crop = self.coverage.param.image_size_y, self.coverage.param.image_size_x
        for message in (self.random, self.coverage.param):
            for field, value in message.ListFields():
                if isinstance(value, float) and not math.isfinite(value):
                    raise self.error(f"{field.name} must be finite, got {value:g}")
        if self.random.hue_rotation < 0:
            raise self.error(f"hue_rotation must be at least 0, got {self.random.hue_rotation:g}")
        if len(common.mean_value) not in (0, 1, 3):
            raise self.error(f"mean_value must be given once or three times, got {len(common.mean_value)}")
        try:
            fixed = np.array(common.mean_value or [0], np.float32)[:, None, None]
            self.mean = read_mean(common.mean_file) if common.HasField("mean_file") else fixed
        except DataError as error:
            raise self.error(str(error)) from error

    def top_shapes(self, bottom_shapes):
        images, boxes = bottom_shapes
        if len(images) != 4 or images[1] != 3 or 0 in images[2:]:
            raise self.error(f"bottom 0 must be images (N, 3, H, W), got {images}")
        if len(boxes) != 4 or boxes[:2] != (images[0], 1) or boxes[2] < 1 or boxes[3] != _ROW:
            raise self.error(f"bottom 1 must be ({images[0]}, 1, R, {_ROW}) with at least one row, got {boxes}")
        return [(images[0], 3, *self.crop), (images[0], self.coverage.channels, *self.coverage.grid)]

    def forward_cpu(self, bottom, top):
        images, rows, generator = bottom[0].read_data(), bottom[1].read_data()[:, 0], self.rng.generator()
        for n, image in enumerate(images):
            count, length = truncated(rows[n, 0, :2])
            if length != _ROW or not 0 <= count < len(rows[n]):
                raise self.error(f"row 0 of bottom 1 must be a number of boxes below {len(rows[n])}, and {_ROW}, got "
                                 f"{count} and {length}")  # fmt: skip
            change = self._drawn(image.shape[1:], generator)
            top[0].data[n] = self._changed_image(image, change)
            boxes = rows[n, 1 : 1 + count].astype(float)
            top[1].data[n] = self.coverage.label(changed_boxes(boxes, image.shape[1:], change))

    def _drawn(self, size: tuple[int, int], generator: np.random.Generator) -> Change:
        if self.phase != TRAIN:
            return Change(0.0, 1.0, False, self.crop, 0.0, (0, 0))
        p, happens = self.random, lambda probability: generator.random() <= probability
        hue = generator.uniform(-p.hue_rotation, p.hue_rotation) if happens(p.hue_rotation_prob) else 0.0
        saturation = 1 - generator.random() * p.desaturation_max if happens(p.desaturation_prob) else 1.0
        flip = happens(p.flip_prob)
        factor = p.scale_min + (p.scale_max - p.scale_min) * generator.random() if happens(p.scale_prob) else 1.0
        height, width = (max(1, round(n * factor)) for n in size)
        angle = generator.uniform(-1, 1) * p.max_rotate_degree if happens(p.rotation_prob) else 0.0
        whole = rotation(height, width, angle)[1]
        shift, part = (0, 0), np.full(2, 0.5)
        if happens(p.crop_prob):
            shift, part = (p.shift_y, p.shift_x), generator.random(2)
        corner = [round(a * (n - m + s) - s // 2) for a, n, m, s in zip(part, whole, self.crop, shift)]
        return Change(float(np.clip(hue, -180, 180)), saturation, flip, (height, width), angle, tuple(corner))

    def _changed_image(self, image: np.ndarray, change: Change) -> np.ndarray:
        image = recolored(image.astype(np.float32), change.hue, change.saturation)
        _, height, width = image.shape
        mean = self.mean if self.mean.shape[1:] == (1, 1) else resize(self.mean, height, width, "CUBIC")
        image = (image - mean)[:, :, :: -1 if change.flip else 1]
        image = resize(np.ascontiguousarray(image), *change.size, "CUBIC")
        if change.angle:
            image = rotated(image, change.angle)
        top, left = change.corner
        result = np.zeros((3, *self.crop), np.float32)
        rows = slice(max(0, top), max(0, min(image.shape[1], top + self.crop[0])))
        columns = slice(max(0, left), max(0, min(image.shape[2], left + self.crop[1])))
        part = image[:, rows, columns]
        at = max(0, -top), max(0, -left)
        result[:, at[0] : at[0] + part.shape[1], at[1] : at[1] + part.shape[2]] = part
        return result


def changed_boxes(boxes: np.ndarray, size: tuple[int, int], change: Change) -> np.ndarray:
    """Return the rows of boxes as they are after a change of an image of that size."""
    boxes = boxes.copy()
    if change.flip:
        boxes[:, 0] = size[1] - boxes[:, 0] - boxes[:, 2] - 1
    boxes[:, :4] *= np.tile(np.array(change.size[::-1]) / size[::-1], 2)
    if change.angle:
        matrix, _ = rotation(*change.size, change.angle)
        half = boxes[:, 2:4] / 2
        boxes[:, :2] = (boxes[:, :2] + half) @ matrix[:, :2].T + matrix[:, 2] - half
    boxes[:, :2] -= change.corner[::-1]
    return boxes


def rotation(height: int, width: int, angle: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the (2, 3) matrix of a rotation by degrees about the centre, moved so that all is at 0 and above, and the
    height and width of the whole."""
    if not angle:
        return np.eye(2, 3), (height, width)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn, centre = np.array([[cos, -sin], [sin, cos]]), np.array([width, height]) / 2
    corners = turn @ (np.array([[0, width, 0, width], [0, 0, height, height]]) - centre[:, None]) + centre[:, None]
    low, high = np.floor(corners.min(1)), np.ceil(corners.max(1))
    matrix = np.column_stack([turn, centre - turn @ centre - low])
    return matrix, (int(high[1] - low[1]) + 1, int(high[0] - low[0]) + 1)


def rotated(image: np.ndarray, angle: float) -> np.ndarray:
    """Return an image rotated by degrees, by linear interpolation, with 0 around it."""
    _, height, width = image.shape
    matrix, whole = rotation(height, width, angle)
    rows, columns = np.indices(whole)
    x, y = np.tensordot(np.linalg.inv(matrix[:, :2]), np.stack([columns, rows]) - matrix[:, 2, None, None], 1)
    inside = (x >= 0) & (y >= 0) & (x <= image.shape[2] - 1) & (y <= image.shape[1] - 1)
    values = bilinear(image, *(np.where(inside, at, 0) for at in (x, y)))
    return np.where(inside, values, 0).astype(np.float32)


def recolored(image: np.ndarray, hue: float, saturation: float) -> np.ndarray:
    """Return an image (blue, green, red) with its hue turned by degrees, and the factor of its saturation."""
    if not hue and saturation == 1:
        return image
    blue, green, red = image
    most, least = image.max(0), image.min(0)
    spread = most - least
    scale = 60 / np.where(spread > 0, spread, 1)
    degrees = np.where(
        most == red,
        (green - blue) * scale,
        np.where(most == green, (blue - red) * scale + 120, (red - green) * scale + 240),
    )
    chroma = spread * saturation
    sector = (degrees + hue) / 60 % 6
    colors = [most - chroma * np.clip(np.minimum((n + sector) % 6, 4 - (n + sector) % 6), 0, 1) for n in (1, 3, 5)]
    return np.stack(colors).astype(np.float32)
