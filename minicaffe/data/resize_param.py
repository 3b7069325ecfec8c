"""resize_param of a transform_param, from the SSD fork: pictures are resized before they are cropped.

Source: `ApplyResize` and `UpdateBBoxByResizePolicy` (im_transforms.cpp), `ExtrapolateBBox` (bbox_util.cpp); those of
ducha-aiki's for center_object and max_angle.  As there, the `prob` of a single one has no effect, and the sizes of
a picture are whole numbers where those that move the boxes are not.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from minicaffe.data.centering import cut_to_object
from minicaffe.data.image import resize
from minicaffe.data.warp import Border, rotation, warp
from minicaffe.errors import DataError
from minicaffe.limits import max_pixels
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import ResizeParameter

_PAD_MODES: dict[int, Literal["reflect", "edge"]] = {
    ResizeParameter.MIRRORED: "reflect",
    ResizeParameter.REPEAT_NEAREST: "edge",
}


class Fit(NamedTuple):
    """Where a resized picture is inside the result, in pixels."""

    height: int  #: of the resized picture
    width: int
    top: int  #: rows of padding above it
    left: int  #: columns of padding on the left


class Drawn(NamedTuple):
    """What is random about the resizing of a picture."""

    mode: str  #: the interpolation
    degrees: float = 0.0  #: by which the picture is turned before, counterclockwise


class Resizer:
    """The resizing of a ResizeParameter: of pictures, and of the boxes on them.

    DataError for a pad_value that is no number or infinite, and a max_angle that is negative or not finite.
    """

    def __init__(self, param: ResizeParameter) -> None:
        if not np.isfinite(param.pad_value).all():
            raise DataError(f"resize_param: pad_value must be finite, got {', '.join(map(str, param.pad_value))}")
        if not 0 <= param.max_angle < np.inf:
            raise DataError(f"resize_param: max_angle must be 0 or more and finite, got {param.max_angle:g}")
        self.param = param
        self.modes = [ResizeParameter.Interp_mode.Name(mode) for mode in param.interp_mode] or ["LINEAR"]

    @property
    def moves_objects(self) -> bool:
        """Whether a picture is cut or turned before it is resized, which boxes do not follow."""
        return self.param.center_object or self.param.max_angle > 0

    def draw(self, rng: Stream) -> Drawn:
        """Draw the interpolation of a picture, one of `modes`, each with the same probability, and its angle."""
        mode = self.modes[int(rng.generator().integers(len(self.modes))) if len(self.modes) > 1 else 0]
        most = self.param.max_angle
        return Drawn(mode, rng.generator().uniform(-most, most) if most else 0.0)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width after resizing and padding.

        DataError for a size that is not positive or too large.
        """
        return self._sizes(height, width)[0]

    def __call__(self, image: np.ndarray, drawn: Drawn) -> np.ndarray:
        """Return the resized picture (C, H, W), in its dtype; drawn: the result of `draw`.

        DataError for a picture to center that has no bytes, or not 1 or 3 channels.
        """
        if self.param.center_object:
            if image.dtype != np.uint8 or len(image) not in (1, 3):
                raise DataError(
                    "resize_param: center_object needs images of bytes with 1 or 3 channels, got "
                    f"{image.dtype} with {len(image)}"
                )
            image = cut_to_object(image)
        if drawn.degrees:
            border: Border = _PAD_MODES.get(self.param.pad_mode, "constant")
            turn = rotation(drawn.degrees, *image.shape[1:])
            image = warp(image, turn, drawn.mode, border, self._pad_values(len(image)))
        size, fit = self._sizes(*image.shape[1:])
        inner = resize(image, fit.height, fit.width, drawn.mode)
        return inner if size == inner.shape[1:] else self._padded(inner, size, fit)

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Carry boxes on a picture of height x width, in pixels, to the resized picture.

        boxes: (N, 4), corners xmin, ymin, xmax, ymax as fractions of the picture's width and height.
        Return (N, 4) float32, fractions of the result.  Only FIT_LARGE_SIZE_AND_PAD moves them: the padding is that of
        the exact aspect ratio, where the picture has whole pixels.
        """
        new, old = _floats(self.param.width, self.param.height), _floats(width, height)
        aspect = old[0] / old[1]
        pad = np.zeros(2, np.float32)
        wide = aspect > new[0] / new[1]
        if self.param.resize_mode == ResizeParameter.FIT_LARGE_SIZE_AND_PAD:
            pad[int(wide)] = (new[1] - new[0] / aspect if wide else new[0] - aspect * new[1]) / np.float32(2)
        elif self.param.resize_mode == ResizeParameter.FIT_SMALL_SIZE:
            new = self._covering(height, width)
        corners = boxes.astype(np.float32).reshape(-1, 2, 2) * old * (new - 2 * pad) / old
        low, high = np.maximum(corners[:, 0], 0), np.minimum(corners[:, 1], new)
        return (np.concatenate([pad + low, pad + high], 1) / np.concatenate([new, new])).astype(np.float32)

    def extrapolate(self, boxes: np.ndarray, height: int, width: int, crop: np.ndarray) -> np.ndarray:
        """Stretch boxes (N, 4) on a crop of the resized picture to units of height_scale and width_scale.

        height, width: of the picture before resizing, in pixels.  crop: (4,), its corners as fractions of the resized
        picture.  Without FIT_SMALL_SIZE and both scales the boxes stay.  Return (N, 4) float32.
        DataError for a crop smaller than the scales.
        """
        boxes = boxes.astype(np.float32)
        scale = _floats(self.param.width_scale, self.param.height_scale)
        if self.param.resize_mode != ResizeParameter.FIT_SMALL_SIZE or not scale.all():
            return boxes
        size = self._covering(height, width) * (_floats(*crop[2:]) - _floats(*crop[:2]))
        if (size < scale).any():
            raise DataError(
                f"resize_param: width_scale {scale[0]:g} and height_scale {scale[1]:g} must not be larger than the "
                f"crop, {size[0]:g}x{size[1]:g}"
            )
        return (boxes.reshape(-1, 2, 2) * size / scale).reshape(-1, 4)

    def _covering(self, height: int, width: int) -> np.ndarray:
        """Return the exact (width, height), float32, of the picture that covers `width` x `height` of the param."""
        new, aspect = _floats(self.param.width, self.param.height), np.float32(width) / np.float32(height)
        if aspect < new[0] / new[1]:
            return np.array([new[0], new[0] / aspect])
        return np.array([aspect * new[1], new[1]])

    def _sizes(self, height: int, width: int) -> tuple[tuple[int, int], Fit]:
        """Return the size of the result, (height, width), and the place of the picture in it."""
        new_h, new_w = self.param.height, self.param.width
        if not new_h or not new_w:
            raise DataError(f"resize_param: height and width must be positive, got {new_h} and {new_w}")
        fit = Fit(new_h, new_w, 0, 0)
        if self.param.resize_mode != ResizeParameter.WARP:
            aspect, wanted = np.float32(width) / np.float32(height), np.float32(new_w) / np.float32(new_h)
            is_small = self.param.resize_mode == ResizeParameter.FIT_SMALL_SIZE
            if aspect < wanted if is_small else aspect > wanted:
                fit = fit._replace(height=max(1, int(np.float32(new_w) / aspect)))
            else:
                fit = fit._replace(width=max(1, int(aspect * np.float32(new_h))))
            if is_small:
                new_h, new_w = fit.height, fit.width
            fit = fit._replace(top=(new_h - fit.height) // 2, left=(new_w - fit.width) // 2)
        if new_h * new_w > max_pixels():
            raise DataError(
                f"resize_param: an image of {new_h}x{new_w} has more than {max_pixels()} pixels: "
                "the environment variable MINICAFFE_MAX_PIXELS raises this limit"
            )
        return (new_h, new_w), fit

    def _padded(self, inner: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
        """Return a picture of `size` with `inner` at its place."""
        channels = len(inner)
        pads = [(fit.top, size[0] - fit.height - fit.top), (fit.left, size[1] - fit.width - fit.left)]
        if self.param.pad_mode in _PAD_MODES:
            return np.pad(inner, [(0, 0), *pads], _PAD_MODES[self.param.pad_mode])
        values = self._pad_values(channels)[:, None, None]
        result = np.empty((channels, *size), inner.dtype)
        result[...] = np.rint(values).clip(0, 255) if inner.dtype == np.uint8 else values
        result[:, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = inner
        return result

    def _pad_values(self, channels: int) -> np.ndarray:
        """Return pad_value, (1,) or (channels,); DataError for another number of values."""
        values = _floats(*(self.param.pad_value or [0]))
        if len(values) not in (1, channels):
            raise DataError(f"resize_param: pad_value must be given once or once per channel, got {len(values)}")
        return values


def _floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)
