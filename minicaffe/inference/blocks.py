"""Where the preprocessing of a net's images comes from: a `preprocess { }` block of a prototxt, or a data layer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from minicaffe.core.passes import filter_net
from minicaffe.core.registry import facts_of
from minicaffe.errors import DataError, listed
from minicaffe.proto import TEST, caffe_pb2, read_net, read_text


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
            changes.append(f"size {size[0]}x{size[1]}")
        if len(mean):
            for name in ("mean_file", "mean_value"):
                param.transform_param.ClearField(name)
            if isinstance(mean, str):
                param.transform_param.mean_file = mean
                changes.append(f"mean {mean}")
            else:
                param.transform_param.mean_value.extend(mean)
                changes.append("other mean values")
        if rgb:
            param.channel_order = caffe_pb2.PreprocessParameter.RGB
            changes.append("channels RGB")
        return Block(param, ", ".join([self.origin, *changes]), self.keeps_size)


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
    """Return the data layers that read images, by the name of the input in their place, which is their first top.

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
