"""PriorBox: the default boxes of a detector at every place of a feature map."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, Shape
from minicaffe.core.registry import register
from minicaffe.cuda import ops

_log = logging.getLogger(__name__)


_FACEBOXES = [32, 64, 128]  # the min_size of the layer that is another one in FaceBoxes' fork


@register("PriorBox")
class PriorBox(Layer):
    """Boxes (xmin, ymin, xmax, ymax), as fractions of the image, centred on each place of bottom 0.

    bottoms: a feature map (N, C, h, w), the image (N, C, H, W); only their shapes are read, and
        their gradients are 0
    top: (1, 2, h w P 4), channel 0 the boxes, channel 1 a variance for each of their numbers

    Each min_size m gives a square of side m, with its max_size M one of side sqrt(m M), and for each aspect ratio r
    other than 1 a box of m sqrt(r) x m / sqrt(r); P is their number.  Centres and sizes are rounded to float32, corners
    once more, as in the original: the matching of MultiBoxLoss depends on their last bit.

    prior_box_param: min_size, max_size (none, or one for each min_size; both are cut to whole numbers), aspect_ratio,
        flip true (1 / r as well), clip false (to the image), variance 0.1 (one or four), img_size or img_h and img_w
        (absent: bottom 1's), step or step_h and step_w (absent: image / feature map), offset 0.5.
    denser_prior_boxes false: each box twice, the second centred on the lower edge of its cell (TextBoxes++: Liao, Shi
        and Bai, 2018).
    densify false: with three min_size, the square of the first has 4 x 4 centres, shifted by -2 to 1 quarters of its
        side in x and y, that of the second 2 x 2, by -1 and 0 quarters; all squares reach (m - 1) / 2 from their centre
        (FaceBoxes: Zhang et al., 2017, section 3.2).
    Source: Liu et al., SSD, 2016, section 2.2.
    """

    fork = "SSD"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.prior_box_param
        for field in ("min_size", "max_size", "aspect_ratio", "variance"):
            values = list(getattr(param, field))
            if not all(map(math.isfinite, values)) or (field == "aspect_ratio" and min(values, default=1) <= 0):
                raise self.error(f"{field} must be finite and above 0, got {values}")
        self._read_sizes()
        self.variance = list(param.variance) or [0.1]
        if len(self.variance) not in (1, 4) or min(self.variance) <= 0:
            raise self.error(f"variance must be one or four positive numbers, got {self.variance}")
        self.ratios: list[np.float32] = []
        for ratio in map(np.float32, param.aspect_ratio):
            if all(abs(ratio - known) >= 1e-6 for known in (np.float32(1), *self.ratios)):
                self.ratios += [ratio, np.float32(1 / float(ratio))] if param.flip else [ratio]
        self.shifts, self.halves = self._pattern()
        self.boxes = Blob((), self.dtype)
        self.made_for: tuple[Shape, Shape] | None = None  # the shapes of the bottoms that `boxes` are for

    def _read_sizes(self) -> None:
        """Set `small` and `large`, the sizes as whole numbers, which are compared before they are cut."""
        small, large = list(self.param.min_size), list(self.param.max_size)
        if not small or min(small) <= 0:
            raise self.error(f"needs at least one min_size, above 0, got {small}")
        if large and (len(large) != len(small) or any(m <= s for m, s in zip(large, small))):
            raise self.error(f"max_size must be larger than min_size, one for each, got {large} and {small}")
        if self.param.densify and len(small) != 3:
            raise self.error(f"densify needs three min_size, got {small}")
        self.small, self.large = [int(s) for s in small], [int(s) for s in large]
        if 0 in self.small:
            _log.warning("Layer %s: min_size below 1 is cut to 0: its boxes have no area", self.name)
        if self.small == _FACEBOXES and not self.param.HasField("densify"):
            _log.warning("Layer %s: for FaceBoxes' anchors, 21 at each place, write densify: true", self.name)

    def _pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Return of each box at a place the shift of its centre and its half width and height: (P, 2) each, in pixels.

        The shifts are float32, the halves float64.
        """
        boxes: list[tuple[float, float, float, float]] = []  # shift, width, height
        for i, small in enumerate(self.small):
            if self.param.densify:
                boxes += [(x, y, small - 1, small - 1) for y, x in _dense(small, (4, 2, 1)[i])]
            else:
                boxes.append((0, 0, small, small))
            if self.large:
                large = math.sqrt(small * self.large[i])
                boxes.append((0, 0, large, large))
            side = np.float32(small)
            boxes += [(0, 0, side * np.sqrt(r), side / np.sqrt(r)) for r in self.ratios]
        pattern = np.array(boxes, np.float32)
        return pattern[:, :2], pattern[:, 2:].astype("f8") / 2

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if len(shape) != 4:
                raise self.error(f"bottom {i} must be (N, C, H, W), got {shape}")
            if 0 in shape[2:]:
                raise self.error(f"bottom {i} has pictures without pixels: its shape is {shape}")
        height, width = bottom_shapes[0][2:]
        count = len(self.halves) * (2 if self.param.denser_prior_boxes else 1)
        return [(1, 2, height * width * count * 4)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if self.boxes.shape != top[0].shape or self.made_for != (bottom[0].shape, bottom[1].shape):
            self.made_for = (bottom[0].shape, bottom[1].shape)
            self.boxes.reshape(top[0].shape)
            self.boxes.data[0, 0] = self._boxes(*bottom[0].shape[2:], *bottom[1].shape[2:]).ravel()
            self.boxes.data[0, 1].reshape(-1, 4)[...] = self.variance

    def _boxes(self, height: int, width: int, image_h: int, image_w: int) -> np.ndarray:
        """Return the boxes, (height, width, P, 4), in float64, from float32 centres and sizes."""
        param = self.param
        image_h, image_w = param.img_h or param.img_size or image_h, param.img_w or param.img_size or image_w
        step_h = np.float32(param.step_h or param.step) or np.float32(image_h) / np.float32(height)
        step_w = np.float32(param.step_w or param.step) or np.float32(image_w) / np.float32(width)
        x, y = np.meshgrid(_centres(width, param.offset, step_w), _centres(height, param.offset, step_h))
        centre, half = np.stack([x, y], -1)[:, :, None] + self.shifts, self.halves
        if param.denser_prior_boxes:
            centre, half = centre.repeat(2, 2), half.repeat(2, 0)
            centre[:, :, 1::2, 1] = _centres(height, 1, step_h)[:, None, None]
        boxes = np.concatenate([centre - half, centre + half], -1) / [image_w, image_h, image_w, image_h]
        return np.clip(boxes, 0, 1) if param.clip else boxes

    def forward_cpu(self, bottom, top):
        top[0].data = self.boxes.read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff = 0  # the boxes do not depend on values

    def forward_gpu(self, bottom, top):
        ops.copy(top[0].count, self.boxes.gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                ops.fill(blob.count, 0, blob.mutable_gpu_diff(), self.dtype)


def _centres(count: int, offset: float, step: np.float32) -> np.ndarray:
    """Return the centres of `count` places along one axis, in pixels, in float32."""
    return (np.arange(count, dtype=np.float32) + np.float32(offset)) * step


def _dense(size: int, count: int) -> Iterator[tuple[float, float]]:
    """Yield the shifts (y, x) of `count` x `count` centres, a quarter of `size` apart, rows first; (0, 0) for one."""
    steps = [i * size / 4 for i in range(-(count // 2), (count + 1) // 2)]
    return itertools.product(steps, steps)
