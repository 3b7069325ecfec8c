"""How an image becomes the input of a net: resized, cropped at the centre, minus the mean, times the scale.

It is what the net's data layer does in TEST, or what a `preprocess { }` block of a prototxt states.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

from minicaffe.data.arrays import transposed_hint
from minicaffe.data.box_rows import WHOLE, inside
from minicaffe.data.image import decode_pixels, resize
from minicaffe.data.image_file import read_bytes
from minicaffe.data.part import Part
from minicaffe.data.transformer import BatchTransformer
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.inference.blocks import Block, read_block
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2

__all__ = ["Block", "Preprocessing", "read_block", "transformer_of"]

_RGB = caffe_pb2.PreprocessParameter.RGB
_ORDERS = {
    "BGR": "BGR, as ImageData and convert_imageset store them; a net trained on RGB records, such as CIFAR-10's own, "
    "needs --rgb",
    "RGB": "RGB; a net trained through ImageData or convert_imageset reads BGR",
    "": "gray",
}
_RANGES = ("rand_resize_ratio", "vertical_stretch", "horizontal_stretch")
_RANDOM = (
    "geometry_param",
    "more_noise_param",
    "more_resize_param",
    "random_90_deg_rot",
    "random_crop_on_test",
    "vertical_mirror",
    *(f"{name}_{end}" for name in _RANGES for end in ("lower", "upper")),
)


class Preprocessing:
    """The preprocessing of a Block for one input of a net; immutable, so threads may share it.

    block: what to do.  name: the input.  shape: its (N, C, H, W); C = 1 reads images as gray, C = 3 in color.
    An image is resized to `size`, (height, width), in pixels, unless that is None: new_height and new_width; else the
    size that resize_param gives; else that of the mean file; else that of the crop; else that of the input.
    DataError when parameters contradict each other, the mean file cannot be read, or the result has not the input's
    shape.
    """

    def __init__(self, block: Block, shape: Sequence[int], name: str = "data") -> None:
        self.block, self.shape, self._name = block, tuple(shape[1:]), name
        if len(shape) != 4:
            raise DataError(f"input '{name}' of the net has shape {tuple(shape)}, expected (N, C, H, W) for images")
        with _named(block.origin):
            self.transformer = transformer_of(block.param.transform_param)
        self.size = self._size(block)
        if self.size and not self.transformer.resizer:
            before = (self.shape[0], *self.size)
            with _named(block.origin):
                self.transformer.check_mean(before)
                after = self.transformer.output_shape(before)
            if after != self.shape:
                raise DataError(
                    f"{block.origin}: images become {_by(after)}, but the net's input '{name}' reads {_by(self.shape)}"
                )

    @property
    def order(self) -> str:
        """The order of the net's channels: "BGR", "RGB", or "" for gray images."""
        if self.shape[0] != 3:
            return ""
        return "RGB" if self.block.param.channel_order == _RGB else "BGR"

    def _size(self, block: Block) -> tuple[int, int] | None:
        height, width = block.param.new_height, block.param.new_width
        if bool(height) != bool(width):
            raise DataError(
                f"{block.origin}: new_height and new_width must be given together, got {height} and {width}"
            )
        if height:
            return height, width
        transformer = self.transformer
        if transformer.resizer is not None or transformer.random_size is not None:
            return None
        if transformer.mean_file and transformer.mean is not None:
            _, *size = transformer.mean.shape
            return size[0], size[1]
        if all(transformer.crop):
            return None if block.keeps_size else transformer.crop
        return self.shape[1], self.shape[2]

    # -- one image -------------------------------------------------------------------------------------------------

    def decode(self, data: bytes, name: str = "encoded image") -> np.ndarray:
        """Return the bytes of an image file as an image for `batch`: uint8 (C, H, W) in the net's order, resized.

        name: the image, for messages.  DataError for damaged data, and for a net that does not read 1 or 3 channels.
        """
        if self.shape[0] not in (1, 3):
            raise DataError(
                f"{name} is an image of 1 or 3 channels, but the net's input '{self._name}' reads {self.shape[0]}: "
                "give arrays or records"
            )
        image = decode_pixels(data, self.shape[0] == 3, name)
        return self.resized(image[::-1] if self.order == "RGB" else image, name)

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Return an image file, decoded as `decode` does; DataError when it cannot be read."""
        return self.decode(read_bytes(path), os.fspath(path))

    def resized(self, image: np.ndarray, name: str = "an image") -> np.ndarray:
        """Return an image (C, H, W), in the net's order of channels, resized to `size`.

        name: the image, for messages.  DataError for another number of axes or channels.
        """
        if image.ndim != 3 or len(image) != self.shape[0] or image.size == 0:
            hint = transposed_hint(image.shape, self.shape)
            raise DataError(f"{name}: expected (C, H, W) with {self.shape[0]} channels, got shape {image.shape}{hint}")
        return image if self.size is None else resize(image, *self.size)

    def write(self, image: np.ndarray, out: np.ndarray, name: str = "an image") -> None:
        """Write the input for a resized image (C, H, W) into `out`, float32 of the net's (C, H, W).

        name: the image, for messages.  DataError for an image that does not have that shape after the crop.
        """
        with _named(name):
            after = self.transformer.output_shape(image.shape)
            if after == out.shape:
                self.transformer.transform([image], out[None])
                return
        raise DataError(
            f"{name}: its shape {_by(image.shape)} gives {_by(after)}, but the net's input '{self._name}' reads "
            f"{_by(out.shape)}"
        )

    def place(self, height: int, width: int) -> np.ndarray:
        """Return where in the input an image of height x width is, after resizing, padding and crop.

        (xmin, ymin, xmax, ymax), float32, as fractions of the input's width and height; beyond 0 and 1 where the image
        is cropped.
        """
        transformer, place = self.transformer, WHOLE
        if transformer.resizer is not None:
            place = transformer.resizer.boxes(WHOLE[None], height, width)[0]
            height, width = transformer.resizer.size(height, width)
        crop_h, crop_w = transformer.crop[0] or height, transformer.crop[1] or width
        crop = Part((height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w)
        return inside(place, np.array(crop.region(height, width), np.float32))

    # -- several images --------------------------------------------------------------------------------------------

    def batch(self, images: Sequence[np.ndarray], each: Each = in_turn) -> np.ndarray:
        """Return the input for images of `decode`, `read` or `resized`: float32 (N, C, H, W).

        The values are those that the data layer computes in TEST from the same pixels.
        each: how the images are distributed over threads (default: they are not).
        """
        out = np.empty((len(images), *self.shape), np.float32)
        each(lambda i: self.write(images[i], out[i], f"image {i} of the batch"), len(images))
        return out

    def describe(self, stored: bool = False) -> str:
        """Return one line: where it comes from, size, crop, mean, scale, and the order of the channels.

        stored: whether the images are pixels of records or arrays, whose channels are not reordered.
        """
        resizer = self.transformer.resizer
        size = "not resized" if self.size is None else f"resized to {_by(self.size)}"
        if resizer is not None:
            size = f"resized by resize_param to {resizer.param.height}x{resizer.param.width}"
        parts = [size, *(["noise_param"] if self.transformer.noise else []), *steps(self.transformer, self.shape)]
        order = "in the order in which they are stored" if stored and self.order else _ORDERS[self.order]
        channels = f"channels {order}" if self.shape[0] in (1, 3) else f"{self.shape[0]} channels"
        return f"preprocessing ({self.block.origin}): {', '.join(parts)}; {channels}"


def steps(transformer: BatchTransformer, shape: Sequence[int]) -> list[str]:
    """Return in words the crop, the mean and the scale of a transformation; shape: (C, H, W), of its result."""
    parts = [f"the central {_by(shape[1:])}"] if any(transformer.crop) else []
    return [*parts, transformer.mean_in_words() or "no mean", f"times {transformer.scale:g}"]


@contextlib.contextmanager
def _named(origin: str) -> Iterator[None]:
    """Prefix a DataError with where the preprocessing comes from."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{origin}: {error}") from error


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def transformer_of(transform_param: caffe_pb2.TransformationParameter) -> BatchTransformer:
    """Return the transformation of a transform_param in TEST without what is random.

    Random sizes become the smallest.  Left out are the mirror, crops at random positions, turns, the points of
    noise_param, all but the first of several resize_param and noise_param and of resize_param's interpolations, and
    AnnotatedData's distortion and expansion.

    DataError if parameters contradict each other or the mean file cannot be read.
    """
    param = caffe_pb2.TransformationParameter()
    param.CopyFrom(transform_param)
    param.mirror = False
    for name in (*BatchTransformer.not_applied, *_RANDOM):
        param.ClearField(name)
    if param.random_resize_param.max_size and param.random_resize_param.min_size:
        param.random_resize_param.max_size = param.random_resize_param.min_size
    if param.HasField("random_aspect_ratio_param"):
        param.random_aspect_ratio_param.max_attempt = 0
    if param.img_rand_resize_lower:
        param.img_rand_resize_upper = param.img_rand_resize_lower
    if param.noise_param.HasField("all_effects"):
        param.ClearField("noise_param")  # whose changes are all random
    elif param.HasField("noise_param"):
        param.noise_param.saltpepper = False
    if param.HasField("resize_param"):
        del param.resize_param.interp_mode[1:]
        param.resize_param.ClearField("max_angle")
    return BatchTransformer(param, train=False, rng=Stream(0, 0))
