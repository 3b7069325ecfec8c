"""PriorBox: the default boxes of a detector at every place of a feature map."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, Shape
from minicaffe.core.registry import register
from minicaffe.cuda import ops


@register("PriorBox")
class PriorBox(Layer):
    """Boxes (xmin, ymin, xmax, ymax), as fractions of the image, centred on each place of bottom 0.

    bottoms: a feature map (N, C, h, w), the image (N, C, H, W); only their shapes are read, and
        their gradients are 0
    top: (1, 2, h w P 4), channel 0 the boxes, channel 1 a variance for each of their numbers

    Each min_size m gives a square of side m, with its max_size M one of side sqrt(m M), and for each aspect ratio r
    other than 1 a box of m sqrt(r) x m / sqrt(r); P is their number.

    prior_box_param: min_size, max_size (none, or one for each min_size; both are cut to whole numbers), aspect_ratio,
        flip true (1 / r as well), clip false (to the image), variance 0.1 (one or four), img_size or img_h and img_w
        (absent: bottom 1's), step or step_h and step_w (absent: image / feature map), offset 0.5.
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
        self.small, self.large = [int(s) for s in param.min_size], [int(s) for s in param.max_size]
        if not self.small or min(self.small) < 1:
            raise self.error(f"needs at least one min_size, of 1 or more, got {list(param.min_size)}")
        if self.large and (len(self.large) != len(self.small) or any(m <= s for m, s in zip(self.large, self.small))):
            raise self.error(f"max_size must be larger than min_size, one for each, got {self.large} and {self.small}")
        self.variance = list(param.variance) or [0.1]
        if len(self.variance) not in (1, 4) or min(self.variance) <= 0:
            raise self.error(f"variance must be one or four positive numbers, got {self.variance}")
        self.ratios: list[float] = []
        for ratio in param.aspect_ratio:
            if all(abs(ratio - known) >= 1e-6 for known in (1, *self.ratios)):
                self.ratios += [ratio, 1 / ratio] if param.flip else [ratio]
        self.boxes = Blob((), self.dtype)
        self.made_for: tuple[Shape, Shape] | None = None  # the shapes of the bottoms that `boxes` are for

    def sizes(self) -> list[tuple[float, float]]:
        """Return width and height of each box at one place."""
        sizes: list[tuple[float, float]] = []
        for i, small in enumerate(self.small):
            sizes.append((small, small))
            if self.large:
                sizes.append((math.sqrt(small * self.large[i]),) * 2)
            sizes += [(small * math.sqrt(r), small / math.sqrt(r)) for r in self.ratios]
        return sizes

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if len(shape) != 4:
                raise self.error(f"bottom {i} must be (N, C, H, W), got {shape}")
            if 0 in shape[2:]:
                raise self.error(f"bottom {i} has pictures without pixels: its shape is {shape}")
        height, width = bottom_shapes[0][2:]
        return [(1, 2, height * width * len(self.sizes()) * 4)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if self.boxes.shape != top[0].shape or self.made_for != (bottom[0].shape, bottom[1].shape):
            self.made_for = (bottom[0].shape, bottom[1].shape)
            self.boxes.reshape(top[0].shape)
            self.boxes.data[0, 0] = self._boxes(*bottom[0].shape[2:], *bottom[1].shape[2:]).ravel()
            self.boxes.data[0, 1].reshape(-1, 4)[...] = self.variance

    def _boxes(self, height: int, width: int, image_h: int, image_w: int) -> np.ndarray:
        """Return the boxes, (height, width, P, 4)."""
        param = self.param
        image_h, image_w = param.img_h or param.img_size or image_h, param.img_w or param.img_size or image_w
        step_h, step_w = param.step_h or param.step or image_h / height, param.step_w or param.step or image_w / width
        x, y = np.meshgrid((np.arange(width) + param.offset) * step_w, (np.arange(height) + param.offset) * step_h)
        centre = np.stack([x, y], -1)[:, :, None]
        half = np.array(self.sizes()) / 2
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
