"""A net in TEST as an ONNX model."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minicaffe.core.layer import Shape
from minicaffe.core.net import Net
from minicaffe.errors import ExportError, MinicaffeError, listed
from minicaffe.export.deploy import deployed
from minicaffe.export.onnx import layers, onnx_pb2  # noqa: F401  (registers the converters)
from minicaffe.export.onnx.conversion import Conversion, Nodes, converter
from minicaffe.export.onnx.graph import Dim, Graph
from minicaffe.export.onnx.preprocessing import Preprocessing
from minicaffe.proto import caffe_pb2

OPSET, IR_VERSION = 17, 8


@dataclass(frozen=True)
class Exported:
    """An ONNX model and what it was made from.

    net: the net from inputs to outputs, see `deployed`.
    model: the ModelProto.
    fixed: for each input whose batch size is fixed, the reason.
    """

    net: Net
    model: onnx_pb2.ModelProto
    fixed: Mapping[str, str]


def to_model(net: Net, preprocessing: Mapping[str, Preprocessing] | None = None) -> Exported:
    """Return a net in TEST as an ONNX model (opset 17), from its inputs to its outputs, see `deployed`.

    Inputs, outputs and values have the names of the blobs; where layers work in place, the last value has the name,
    unless the blob is an input.  Axis 0 of an input is free where the graph is the same for another batch size.

    preprocessing: what is done with inputs, by name, before the net reads them (default: nothing).
    Raises ExportError, with the names of all layers that ONNX cannot express.
    """
    net = deployed(net, _has_form)
    given = dict(preprocessing or {})
    walk = _Walk(net, given)
    sizes = _free_sizes(net, walk, given)
    walk.declare(sizes.symbols, sizes.output_dims)
    model = onnx_pb2.ModelProto(ir_version=IR_VERSION, producer_name="minicaffe", graph=walk.graph.proto)
    model.opset_import.add(domain="", version=OPSET)
    return Exported(net, model, sizes.fixed)


def _has_form(layer: caffe_pb2.LayerParameter) -> bool:
    """Whether a layer can be a part of the graph; a DummyData with random values is an input."""
    is_random = any(filler.type != "constant" for filler in layer.dummy_data_param.data_filler)
    return converter(layer.type) is not None and not is_random


# -- the walk ----------------------------------------------------------------------------------------------------------


class _Walk:
    """Converts a net layer by layer.

    values: the name of the value that each blob name stands for.
    ends: for each layer, the numbers of nodes and initializers behind it.
    """

    def __init__(self, net: Net, preprocessing: Mapping[str, Preprocessing]) -> None:
        self.net, self.graph = net, Graph(net.name or "net")
        self.preprocessing = preprocessing
        self.values: dict[str, str] = {}
        self.ends: list[tuple[int, int]] = []
        self._writes_left = Counter(name for tops in net.names_of_tops for name in tops)
        for name in net.inputs:
            self._read_input(name)
        refused = []
        for i, layer in enumerate(net.layers):
            try:
                if not layer.tops_are_inputs:
                    self._convert(i)
            except ExportError as error:
                refused.append(str(error))
            self.ends.append((len(self.graph.proto.node), len(self.graph.proto.initializer)))
        if refused:
            raise ExportError(f"ONNX cannot express {listed(refused, len(refused))}")
        self.outputs = {name: self._output(name) for name in net.outputs}

    def _read_input(self, name: str) -> None:
        self.values[name] = self.graph.reserve(name)
        if name in self.preprocessing:
            self.values[name] = self.preprocessing[name].add_to(Nodes(self.graph, f"{name}/preprocessing"), name)

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
            if value not in bottoms and not self.graph.is_constant(value):
                name = self.graph.unique(f"{top}/{layer.name}" if self._writes_left[top] else top)
                self.graph.rename(value, name)
                value = name
            self.values[top] = value

    def _output(self, name: str) -> str:
        """Return the name of the output for a blob: the blob's, unless that is an input."""
        value = self.values[name]
        if value == name and name not in self.net.inputs:
            return value
        free = self.graph.unique(name)
        self.graph.node("Identity", [value], [free], free)
        return free

    # -- what is known at the end ----------------------------------------------------------------------------------

    def declare(self, symbols: Mapping[str, str], output_dims: Mapping[tuple[str, int], str]) -> None:
        """Add the outputs, remove what they do not depend on, and add the inputs that are left.

        symbols: names for axis 0 of inputs.  output_dims: names for axes of outputs, {(output, axis): name}.
        """
        shapes = {name: blob.shape for name, blob in self.net.blobs.items()}
        for name, value in self.outputs.items():
            self.graph.output(value, [output_dims.get((name, axis), size) for axis, size in enumerate(shapes[name])])
        read = self.graph.prune()
        for name in filter(read.__contains__, self.net.inputs):
            shape: list[Dim] = list(shapes[name])
            if name in symbols:
                shape[0] = symbols[name]
            self.graph.input(name, self.preprocessing[name].input_shape(shape) if name in self.preprocessing else shape)

    def first_difference(self, other: _Walk) -> str | None:
        """Return the first layer that was converted otherwise; None if the nodes and constants are the same."""
        before = (0, 0)
        for layer, end, other_end in zip(self.net.layers, self.ends, other.ends):
            if end != other_end or not self.graph.same(other.graph, before, end):
                return f"{layer.type} layer '{layer.name}'"
            before = end
        return None


# -- batch sizes -------------------------------------------------------------------------------------------------------


@dataclass
class _Sizes:
    """Which axes are free.

    symbols: the name of axis 0 of inputs.  output_dims: names of axes of outputs, {(output, axis): name}.
    fixed: the reason for inputs without a symbol.
    """

    symbols: dict[str, str]
    output_dims: dict[tuple[str, int], str]
    fixed: dict[str, str]


def _free_sizes(net: Net, walk: _Walk, preprocessing: Mapping[str, Preprocessing]) -> _Sizes:
    """Convert the net at other batch sizes, and compare the nodes and constants.

    Axis 0 of each input is tried by itself, then together with all inputs of its length.
    """
    found = _Sizes({}, {}, {})
    for name in net.inputs:
        if name in found.symbols or not net.blobs[name].shape:
            continue
        size = net.blobs[name].shape[0]
        alike = [other for other in net.inputs if net.blobs[other].shape[:1] == (size,)]
        for group in ([name], alike):
            reason = _try(net, walk, preprocessing, group, "N" if len(group) == len(net.inputs) else f"N_{name}", found)
            if not reason:
                break
        else:
            found.fixed[name] = reason
    return found


def _try(net: Net, walk: _Walk, preprocessing: Any, group: Sequence[str], symbol: str, found: _Sizes) -> str:
    """Convert the net with axis 0 of some inputs longer by 1; add to `found` and return "", or return a reason."""
    shapes = {name: net.blobs[name].shape for name in net.outputs}
    size = net.blobs[group[0]].shape[0]
    try:
        with _resized(net, {name: (size + 1, *net.blobs[name].shape[1:]) for name in group}):
            difference = walk.first_difference(_Walk(net, preprocessing))
            longer = {name: net.blobs[name].shape for name in net.outputs}
    except MinicaffeError as error:
        return str(error)
    if difference:
        return f"{difference} depends on it"
    found.symbols.update(dict.fromkeys(group, symbol))
    for name, shape in shapes.items():
        for axis, (one, other) in enumerate(zip(shape, longer[name])):
            if one != other:
                found.output_dims[name, axis] = symbol if (one, other) == (size, size + 1) else f"{name}_{axis}"
    return ""


@contextlib.contextmanager
def _resized(net: Net, shapes: Mapping[str, Shape]) -> Iterator[None]:
    """Give inputs other shapes inside the block; values in the net's blobs are not kept."""
    before = {name: net.blobs[name].shape for name in shapes}
    try:
        for name, shape in shapes.items():
            net.blobs[name].reshape(*shape)
        net.reshape()
        yield
    finally:
        for name, shape in before.items():
            net.blobs[name].reshape(*shape)
        net.reshape()
