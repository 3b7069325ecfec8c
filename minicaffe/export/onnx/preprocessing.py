"""What a data layer does with images in TEST, as a part of an exported net: crop, mean, scale, order of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import DataError, ExportError, listed
from minicaffe.export.onnx.conversion import Nodes
from minicaffe.export.onnx.graph import Dim
from minicaffe.inference.blocks import data_layers
from minicaffe.inference.preprocessing import steps, transformer_of
from minicaffe.proto import caffe_pb2


@dataclass(frozen=True, eq=False)
class GraphPreprocessing:
    """y = (x - mean) * scale, of the centre of x, its channels reversed before.

    transformer: the transformation of a transform_param in TEST.
    reverses_channels: whether x has the order of channels RGB, and y BGR.
    order: of the channels that the net reads: "RGB", or "BGR", which is assumed where it is not stated.
    origin: the layer or the block, for messages.
    """

    transformer: BatchTransformer
    reverses_channels: bool = False
    order: str = "BGR"
    origin: str = "transform_param"

    @classmethod
    def of(
        cls,
        transform_param: caffe_pb2.TransformationParameter,
        takes_rgb: bool = False,
        order: str = "BGR",
        origin: str = "transform_param",
    ) -> GraphPreprocessing:
        """Return that of a transform_param; its `mirror` is ignored.

        takes_rgb: whether the graph's input is RGB.  order, origin: as above.
        ExportError for a resize_param or a noise_param; DataError if the mean file cannot be read.
        """
        if transform_param.HasField("resize_param"):
            raise ExportError("transform_param: resize_param cannot be part of an ONNX graph: resize images before")
        if transform_param.HasField("noise_param"):
            raise ExportError("transform_param: noise_param cannot be part of an ONNX graph: apply it to images before")
        return cls(transformer_of(transform_param), takes_rgb and order == "BGR", order, origin)

    def describe(self, shape: Sequence[int]) -> str:
        """Return crop, mean, scale and the order of the channels; shape: (N, C, H, W), of what the net reads."""
        if shape[1] != 3:
            channels = "gray" if shape[1] == 1 else f"{shape[1]} channels"
        elif self.reverses_channels:
            channels = "the input's channels are RGB, reversed for the net, which reads BGR"
        else:
            channels = f"the input's channels are those of the net, {self.order}"
            if self.order == "BGR":
                channels += " unless it was trained on RGB records, such as CIFAR-10's own"
        return f"{', '.join(steps(self.transformer, shape[1:]))}; {channels}"

    def apply(self, images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Return images (N, C, H, W) as the net reads them, (N, C, H', W') of the given shape."""
        out = np.empty((len(images), *shape[1:]), np.float32)
        images = images[:, ::-1] if self.reverses_channels else images
        self.transformer.transform(np.ascontiguousarray(images), out)
        return out

    def input_shape(self, shape: Sequence[Dim]) -> list[Dim]:
        """Return the shape of the input, given the shape that the net reads: before the crop."""
        if self.transformer.mean_file and self.transformer.mean is not None:
            return [shape[0], *self.transformer.mean.shape]
        free: tuple[Dim, Dim] = ("height", "width")
        return [
            shape[0],
            shape[1],
            *(f if crop else size for f, crop, size in zip(free, self.transformer.crop, shape[2:])),
        ]

    def add_to(self, nodes: Nodes, x: str) -> str:
        """Add the nodes and return the name of their result; x: the input, (N, C, H, W)."""
        mean, scale, crop = self.transformer.mean, self.transformer.scale, self.transformer.crop
        if self.reverses_channels:
            x = nodes.op("Slice", x, *(nodes.ints([value]) for value in (-1, -(2**31), 1, -1)))
        if any(crop):
            x = _centre(nodes, x, crop)
        if mean is not None:
            x = nodes.op("Sub", x, nodes.floats(self._mean_of_crop(mean), "mean"))
        return nodes.op("Mul", x, nodes.floats(scale, "scale")) if scale != 1 else x

    def _mean_of_crop(self, mean: np.ndarray) -> np.ndarray:
        if not self.transformer.mean_file:
            return mean
        draws = self.transformer.plan(1, *mean.shape[1:])
        _, height, width = self.transformer.output_shape(mean.shape)
        top, left = int(draws.top[0]), int(draws.left[0])
        return mean[:, top : top + height, left : left + width]


def _centre(nodes: Nodes, x: str, crop: tuple[int, int]) -> str:
    """Crop: it begins at (size - crop) / 2, rounded down, of a size that is known when the graph runs."""
    axes = [axis for axis, length in zip((2, 3), crop) if length]
    lengths = nodes.ints([length for length in crop if length])
    size = nodes.op("Gather", nodes.op("Shape", x), nodes.ints(axes))
    begin = nodes.op("Div", nodes.op("Sub", size, lengths), nodes.ints([2]))
    return nodes.op("Slice", x, begin, nodes.op("Add", begin, lengths), nodes.ints(axes))


def of_net(
    param: caffe_pb2.NetParameter, inputs: Sequence[str], takes_rgb: bool = False
) -> dict[str, GraphPreprocessing]:
    """Return the preprocessing of a net's images, by the name of the input: its preprocess block, else that of its data
    layers.

    param: a NetParameter in TEST, as `filter_net` returns it.
    inputs: the inputs of the net that is exported; where `param` is another file, its only data layer may have a top of
        another name, and belongs to the first input.
    takes_rgb: whether the graph's input is RGB; it is reversed for a net that reads BGR.
    Raises ExportError if there is no such block or layer, and for what cannot be part of a graph.
    """
    if param.HasField("preprocess") and inputs:
        block = param.preprocess
        order = "RGB" if block.channel_order == block.RGB else "BGR"
        return {inputs[0]: _of(block.transform_param, "preprocess block", takes_rgb, order=order)}
    layers = {name: layer for name, layer in data_layers(param, inputs).items() if name in inputs}
    if not layers:
        raise ExportError(
            f"in TEST there is no preprocess block and no data layer that reads images for the input "
            f"{listed(inputs) or '(N, C, H, W), which the net does not have'}: give a prototxt that has one"
        )
    return {
        name: _of(layer.transform_param, f"{layer.type} layer '{layer.name}'", takes_rgb)
        for name, layer in layers.items()
    }


def _of(
    transform_param: caffe_pb2.TransformationParameter, origin: str, takes_rgb: bool, order: str = "BGR"
) -> GraphPreprocessing:
    try:
        return GraphPreprocessing.of(transform_param, takes_rgb, order, origin)
    except (DataError, ExportError) as error:
        raise ExportError(f"{origin}: {error}") from error
