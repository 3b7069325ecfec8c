"""How an image becomes the input of a net: resized, cropped at the centre, minus the mean, times the scale.

It is what the net's data layer does in TEST, or what a `preprocess { }` block of a prototxt states.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from minicaffe.core.passes import filter_net
from minicaffe.core.registry import facts_of
from minicaffe.data.arrays import transposed_hint
from minicaffe.data.image import decode_pixels, resize
from minicaffe.data.image_file import read_bytes
from minicaffe.data.transformer import BatchTransformer
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError, listed
from minicaffe.philox import Stream
from minicaffe.proto import TEST, caffe_pb2, read_net, read_text

_RGB = caffe_pb2.PreprocessParameter.RGB
_ORDERS = {
    "BGR": "BGR, as ImageData and convert_imageset store them; a net trained on RGB records, such as CIFAR-10's own, "
    "needs --rgb",
    "RGB": "RGB; a net trained through ImageData or convert_imageset reads BGR",
    "": "gray",
}


@dataclass(frozen=True)
class Block:
    """A PreprocessParameter and where it comes from.

    origin: for messages, such as "Data layer 'data' of train_val.prototxt".
    keeps_size: whether images without new_height and new_width are cropped as they are, as ImageData does it.
    """

    param: caffe_pb2.PreprocessParameter = field(default_factory=caffe_pb2.PreprocessParameter)
    origin: str = "no preprocessing given"
    keeps_size: bool = False

    def changed(
        self, size: tuple[int, int] | None = None, mean: str | Sequence[float] = (), rgb: bool = False
    ) -> Block:
        """Return this block with what is given replaced, and named in `origin`.

        size: (height, width), in pixels, to resize to.  mean: path of a mean file, or a value for each channel.
        rgb: whether the net reads its channels in the order RGB; False (default) leaves the order.
        """
        param, changes = caffe_pb2.PreprocessParameter(), []
        param.CopyFrom(self.param)
        if size is not None:
            param.new_height, param.new_width = size
            changes.append("another size")
        if len(mean):
            for name in ("mean_file", "mean_value"):
                param.transform_param.ClearField(name)
            if isinstance(mean, str):
                param.transform_param.mean_file = mean
            else:
                param.transform_param.mean_value.extend(mean)
            changes.append("another mean")
        if rgb:
            param.channel_order = _RGB
            changes.append("RGB")
        return Block(param, ", ".join([self.origin, *changes]), self.keeps_size)


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
        if transformer.resizer is not None:
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

    # -- several images --------------------------------------------------------------------------------------------

    def batch(self, images: Sequence[np.ndarray], each: Each = in_turn) -> np.ndarray:
        """Return the input for images of `decode`, `read` or `resized`: float32 (N, C, H, W).

        The values are those that the data layer computes in TEST from the same pixels.
        each: how the images are distributed over threads (default: they are not).
        """
        out = np.empty((len(images), *self.shape), np.float32)
        each(lambda i: self.write(images[i], out[i], f"image {i} of the batch"), len(images))
        return out

    def describe(self) -> str:
        """Return one line: where it comes from, size, crop, mean, scale, and the order of the channels."""
        resizer = self.transformer.resizer
        size = "not resized" if self.size is None else f"resized to {_by(self.size)}"
        if resizer is not None:
            size = f"resized by resize_param to {resizer.param.height}x{resizer.param.width}"
        parts = [size, *steps(self.transformer, self.shape)]
        channels = f"channels {_ORDERS[self.order]}" if self.shape[0] in (1, 3) else f"{self.shape[0]} channels"
        return f"preprocessing ({self.block.origin}): {', '.join(parts)}; {channels}"


def steps(transformer: BatchTransformer, shape: Sequence[int]) -> list[str]:
    """Return in words the crop, the mean and the scale of a transformation; shape: (C, H, W), of its result."""
    parts = [f"the central {_by(shape[1:])}"] if any(transformer.crop) else []
    if transformer.mean_file:
        parts.append(f"minus the mean {transformer.mean_file}")
    elif transformer.mean is not None:
        parts.append("minus the mean " + ", ".join(f"{value:g}" for value in transformer.mean.ravel()))
    else:
        parts.append("no mean")
    return [*parts, f"times {transformer.scale:g}"]


@contextlib.contextmanager
def _named(origin: str) -> Iterator[None]:
    """Prefix a DataError with where the preprocessing comes from."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{origin}: {error}") from error


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# -- where it comes from -----------------------------------------------------------------------------------------------


def transformer_of(transform_param: caffe_pb2.TransformationParameter) -> BatchTransformer:
    """Return the transformation of a transform_param in TEST without what is random: the mirror, prob of resize_param.

    DataError if parameters contradict each other or the mean file cannot be read.
    """
    param = caffe_pb2.TransformationParameter()
    param.CopyFrom(transform_param)
    param.mirror = False
    if param.HasField("resize_param"):
        param.resize_param.prob = 1
        del param.resize_param.interp_mode[1:]
    return BatchTransformer(param, train=False, rng=Stream(0, 0))


def read_block(
    path: str | os.PathLike, inputs: Sequence[str] = (), level: int = 0, stages: Sequence[str] = ()
) -> Block:
    """Return the preprocessing in a prototxt: its `preprocess { }` block, else that of its data layer in TEST.

    inputs: names of the net's inputs, as for `data_layers`.  level, stages: the state for include and exclude rules.
    DataError when the prototxt has neither, or several data layers that could be meant.
    """
    block = find_block(path, inputs, level, stages)
    if block is None:
        raise DataError(
            f"{os.fspath(path)} has no preprocess block and, in TEST, no data layer that reads images: give the "
            "train_val.prototxt of the net"
        )
    return block


def find_block(
    path: str | os.PathLike, inputs: Sequence[str] = (), level: int = 0, stages: Sequence[str] = ()
) -> Block | None:
    """Return the preprocessing in a prototxt as `read_block` does, but None when it has none."""
    return block_of(read_param(path, level, stages), os.fspath(path), inputs)


def read_param(path: str | os.PathLike, level: int = 0, stages: Sequence[str] = ()) -> caffe_pb2.NetParameter:
    """Return the net in a prototxt, in TEST; one with a `preprocess` block need not have layers, and is not filtered.

    level, stages: as for `read_block`.
    """
    param = read_text(path, caffe_pb2.NetParameter())
    if param.HasField("preprocess"):
        return param
    param = read_net(os.fspath(path))
    param.state.phase, param.state.level = TEST, level
    param.state.stage.extend(stages)
    return filter_net(param)


def block_of(param: caffe_pb2.NetParameter, file: str, inputs: Sequence[str] = ()) -> Block | None:
    """Return the preprocessing in a net's message, filtered by `filter_net`; None if there is none.

    file, inputs: as for `read_block`.  DataError when several data layers could be meant.
    """
    if param.HasField("preprocess"):
        return Block(param.preprocess, f"preprocess block of {file}")
    layers = data_layers(param, inputs)
    if len(layers) > 1:
        names = listed(f"'{layer.name}'" for layer in layers.values())
        raise DataError(f"{file} has several data layers: {names}; write a preprocess block into a file of its own")
    return next((_of_layer(layer, file) for layer in layers.values()), None)


def data_layers(param: caffe_pb2.NetParameter, inputs: Sequence[str] = ()) -> dict[str, caffe_pb2.LayerParameter]:
    """Return the data layers that read images, by the name of the input that they stand for, which is their first top.

    inputs: names of inputs of a net (default: the layers are not compared with any).  The only layer of `param` may
        have a top of another name, and belongs to the first input.
    """
    layers = {layer.top[0]: layer for layer in param.layer if layer.top and not layer.bottom and _reads_images(layer)}
    found = {name: layer for name, layer in layers.items() if name in inputs}
    if not found and len(layers) == 1 and inputs:
        found = {inputs[0]: next(iter(layers.values()))}
    return found or layers


def _reads_images(layer: caffe_pb2.LayerParameter) -> bool:
    return layer.HasField("transform_param") or layer.type == "MemoryData" or _shape_of(layer) is not None


def _shape_of(layer: caffe_pb2.LayerParameter) -> Callable[[caffe_pb2.LayerParameter], tuple[int, int, int]] | None:
    """Return the function that gives the (C, H, W) of the images that a layer reads; None for another layer."""
    return getattr(facts_of(layer.type), "image_shape", None)


def _of_layer(layer: caffe_pb2.LayerParameter, file: str) -> Block:
    """Return the preprocessing of a data layer; of an unreadable database the size of the records is unknown."""
    param = caffe_pb2.PreprocessParameter(transform_param=layer.transform_param)
    origin = f"{layer.type} layer '{layer.name}' of {file}"
    if layer.type == "ImageData":
        param.new_height, param.new_width = layer.image_data_param.new_height, layer.image_data_param.new_width
    elif (shape_of := _shape_of(layer)) is not None and not layer.transform_param.HasField("resize_param"):
        _, height, width = shape_of(layer)
        if height and width:
            param.new_height, param.new_width = height, width
    return Block(param, origin, keeps_size=layer.type == "ImageData")
