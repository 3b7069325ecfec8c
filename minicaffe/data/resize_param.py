"""resize_param of a transform_param, from the SSD fork: images are resized before they are cropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.image import resize
from minicaffe.errors import DataError
from minicaffe.limits import max_pixels
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import ResizeParameter


class Resizer:
    """The resizing of a ResizeParameter."""

    def __init__(self, param: ResizeParameter) -> None:
        self.param = param
        orders = {param.NEAREST: 0, param.CUBIC: 3, param.LANCZOS4: 3}
        self._orders = [orders.get(mode, 1) for mode in param.interp_mode] or [1]

    def draw(self, rng: Stream) -> int | None:
        """Draw the interpolation order of an image; None: the image is not resized."""
        if self.param.prob < 1 and rng.generator().random() >= self.param.prob:
            return None
        return self._orders[int(rng.generator().integers(len(self._orders))) if len(self._orders) > 1 else 0]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width after resizing.  DataError for a size that is not positive or too large."""
        new_h, new_w = self.param.height, self.param.width
        if not new_h or not new_w:
            raise DataError(f"resize_param: height and width must be positive, got {new_h} and {new_w}")
        if self.param.resize_mode == ResizeParameter.FIT_SMALL_SIZE:
            scale = max(new_h / height, new_w / width)
            new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
        if new_h * new_w > max_pixels():
            raise DataError(
                f"resize_param: an image of {new_h}x{new_w} has more than {max_pixels()} pixels: "
                "the environment variable MINICAFFE_MAX_PIXELS raises this limit"
            )
        return new_h, new_w

    def __call__(self, image: np.ndarray, order: int | None) -> np.ndarray:
        """Return the resized image (C, H, W), in its dtype; order: the result of `draw`."""
        if order is None:
            return image
        _, height, width = image.shape
        new_h, new_w = self.size(height, width)
        if self.param.resize_mode != ResizeParameter.FIT_LARGE_SIZE_AND_PAD:
            return resize(image, new_h, new_w, order)
        scale = min(new_h / height, new_w / width)
        inner = resize(image, max(1, round(height * scale)), max(1, round(width * scale)), order)
        return self._padded(inner, (new_h, new_w))

    def _padded(self, inner: np.ndarray, size: Sequence[int]) -> np.ndarray:
        param, channels = self.param, len(inner)
        pads = [(0, 0)] + [
            ((new - old) // 2, (new - old + 1) // 2) for new, old in zip(size, inner.shape[1:], strict=True)
        ]
        if param.pad_mode != param.CONSTANT:
            return np.pad(inner, pads, "symmetric" if param.pad_mode == param.MIRRORED else "edge")
        values = list(param.pad_value) or [0]
        if len(values) not in (1, channels):
            raise DataError(f"resize_param: pad_value must be given once or once per channel, got {len(values)}")
        planes = zip(inner, values * (channels // len(values)), strict=True)
        return np.stack([np.pad(plane, pads[1:], constant_values=value) for plane, value in planes])
