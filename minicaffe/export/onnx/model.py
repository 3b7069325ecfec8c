"""A net in TEST as an ONNX model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from minicaffe.core.net import Net
from minicaffe.errors import ExportError, listed
from minicaffe.export.onnx import layers, onnx_pb2  # noqa: F401  (registers the converters)
from minicaffe.export.onnx.conversion import Conversion, converter
from minicaffe.export.onnx.graph import Graph

OPSET, IR_VERSION = 17, 8


def to_model(net: Net) -> onnx_pb2.ModelProto:
    """Return a net as a ModelProto: inputs, outputs and values have the names of the blobs.

    Where layers work in place, the last value has the blob's name, unless the blob is an input.
    Raises ExportError, with the names of all layers that ONNX cannot express.
    """
    model = onnx_pb2.ModelProto(ir_version=IR_VERSION, producer_name="minicaffe")
    model.opset_import.add(domain="", version=OPSET)
    model.graph.CopyFrom(_Walk(net).graph.proto)
    return model


class _Walk:
    """Converts a net layer by layer; `values` has the name of the value that each blob name stands for."""

    def __init__(self, net: Net) -> None:
        self.net, self.graph = net, Graph(net.name or "net")
        self.values: dict[str, str] = {}
        self._writes_left = Counter(name for tops in net.names_of_tops for name in tops)
        refused = []
        for name in net.inputs:
            self.values[name] = self.graph.input(name, net.blobs[name].shape)
        for i, layer in enumerate(net.layers):
            if not layer.tops_are_inputs:
                try:
                    self._convert(i)
                except ExportError as error:
                    refused.append(str(error))
        if refused:
            raise ExportError(f"ONNX cannot express {listed(refused, len(refused))}")
        for name in net.outputs:
            self._output(name)

    def _convert(self, i: int) -> None:
        net, layer = self.net, self.net.layers[i]
        bottoms = [self.values.get(name, name) for name in net.names_of_bottoms[i]]
        shapes = ([blob.shape for blob in blobs] for blobs in (net.bottoms[i], net.tops[i]))
        conversion = Conversion(self.graph, layer, bottoms, *shapes)
        convert = converter(layer.type)
        if convert is None:
            raise conversion.impossible("there is no ONNX form of this type")
        found = convert(conversion)
        self._name_tops(i, bottoms, [found] if isinstance(found, str) else found)

    def _name_tops(self, i: int, bottoms: Sequence[str], found: Sequence[str]) -> None:
        layer = self.net.layers[i]
        for top, value in zip(self.net.names_of_tops[i], found, strict=True):
            self._writes_left[top] -= 1
            if value not in bottoms:
                wanted = f"{top}/{layer.name}" if self._writes_left[top] else top
                name = self.graph.unique(wanted)
                self.graph.rename(value, name)
                value = name
            self.values[top] = value

    def _output(self, name: str) -> None:
        value = self.values[name]
        if value != name:
            free = self.graph.unique(name)
            self.graph.node("Identity", [value], [free], free)
            value = free
        self.graph.output(value, self.net.blobs[name].shape)
