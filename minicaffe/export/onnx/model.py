"""A net in TEST as an ONNX model."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minicaffe.core.net import Net
from minicaffe.errors import ExportError, MinicaffeError, listed
from minicaffe.export.deploy import deployed
from minicaffe.export.onnx import layers, onnx_pb2  # noqa: F401  (registers the converters)
from minicaffe.export.onnx.conversion import Conversion, Nodes, converter
from minicaffe.export.onnx.graph import Dim, Graph
from minicaffe.export.onnx.preprocessing import Preprocessing
from minicaffe.layers.shared.recurrent import Recurrent
from minicaffe.proto import caffe_pb2

OPSET, IR_VERSION = 17, 8

Axis = tuple[str, int]  #: an axis of an input or an output: its name and the number of the axis


@dataclass(frozen=True)
class Exported:
    """An ONNX model and what it was made from.

    net: the net from inputs to outputs, see `deployed`.
    model: the ModelProto.
    fixed: for each axis of an input that was tried but is fixed, the reason.
    """

    net: Net
    model: onnx_pb2.ModelProto
    fixed: Mapping[Axis, str]


def to_model(net: Net, preprocessing: Mapping[str, Preprocessing] | None = None) -> Exported:
    """Return a net in TEST as an ONNX model (opset 17), from its inputs to its outputs, see `deployed`.

    Inputs, outputs and values have the names of the blobs; where layers work in place, the last value has the name,
    unless the blob is an input.  The batch size, axis 0 of inputs, is free where the graph is the same for another one;
    so are the batch size and the number of steps of recurrent nets.

    preprocessing: what is done with inputs, by name, before the net reads them (default: nothing).
    Raises ExportError, with the names of all layers that ONNX cannot express.
    """
    net = deployed(net, _has_form)
    given = dict(preprocessing or {})
    walk = _Walk(net, given)
    sizes = _free_sizes(net, walk, given)
    walk.declare(sizes.inputs, sizes.outputs)
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
    axes_of_values: the blobs with an axis whose length depends on values, and that axis; None if it is not known.
    """

    def __init__(self, net: Net, preprocessing: Mapping[str, Preprocessing]) -> None:
        self.net, self.graph = net, Graph(net.name or "net")
        self.preprocessing = preprocessing
        self.values: dict[str, str] = {}
        self.ends: list[tuple[int, int]] = []
        self.axes_of_values: dict[str, int | None] = {}
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
        tops = net.names_of_tops[i]
        if any(name in self.axes_of_values for name in net.names_of_bottoms[i]):
            self.axes_of_values.update(dict.fromkeys(tops))
        elif conversion.axis_of_values is not None:
            self.axes_of_values.update(dict.fromkeys(tops, conversion.axis_of_values))
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

    def declare(self, inputs: Mapping[Axis, str], outputs: Mapping[Axis, str]) -> None:
        """Add the outputs, remove what they do not depend on, and add the inputs that are left.

        inputs, outputs: the names of their free axes.
        """
        shapes = {name: blob.shape for name, blob in self.net.blobs.items()}
        for name, value in self.outputs.items():
            self.graph.output(value, self._output_shape(name, shapes[name], outputs))
        read = self.graph.prune()
        for name in filter(read.__contains__, self.net.inputs):
            shape = [inputs.get((name, axis), size) for axis, size in enumerate(shapes[name])]
            self.graph.input(name, self.preprocessing[name].input_shape(shape) if name in self.preprocessing else shape)

    def _output_shape(self, name: str, shape: Sequence[int], free: Mapping[Axis, str]) -> list[Dim] | None:
        """Return the shape of an output with names for its free axes; None if it depends on values."""
        axis = self.axes_of_values.get(name)
        if axis is None and name in self.axes_of_values:
            return None
        named = dict(free)
        if axis is not None:
            named[name, axis] = f"{name}_{axis}"
        return [named.get((name, i), size) for i, size in enumerate(shape)]

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
    """Which axes are free: names of axes of inputs and of outputs, and reasons for axes of inputs that are fixed."""

    inputs: dict[Axis, str]
    outputs: dict[Axis, str]
    fixed: dict[Axis, str]


def _free_sizes(net: Net, walk: _Walk, preprocessing: Mapping[str, Preprocessing]) -> _Sizes:
    """Convert the net at other batch sizes, and compare the nodes and constants.

    Axis 0 of each input is tried by itself, then together with all inputs of its length.  In nets with recurrent layers
    the batch, which may be axis 1, is tried before that, and what is left is the number of steps.
    """
    found = _Sizes({}, {}, {})
    shapes = {name: net.blobs[name].shape for name in net.inputs}
    for size in sorted(_recurrent_batches(net)):
        group = [(name, axis) for name, shape in shapes.items() for axis in (0, 1) if shape[axis : axis + 1] == (size,)]
        if group:
            _try(net, walk, preprocessing, group, "N", found)
    rest = [name for name, shape in shapes.items() if shape and (name, 0) not in found.inputs]
    for name in rest:
        alike = [(other, 0) for other in rest if shapes[other][0] == shapes[name][0]]
        for group in ([(name, 0)], alike) if (name, 0) not in found.inputs else ():
            symbol = "N" if len(group) == len(shapes) else "T" if "N" in found.inputs.values() else f"N_{name}"
            if _try(net, walk, preprocessing, group, symbol, found):
                break
    return found


def _recurrent_batches(net: Net) -> set[int]:
    """The batch sizes of recurrent layers, whose bottom 1 is (T, N)."""
    return {bottom[1].shape[1] for layer, bottom in zip(net.layers, net.bottoms) if isinstance(layer, Recurrent)}


def _try(net: Net, walk: _Walk, preprocessing: Any, group: Sequence[Axis], symbol: str, found: _Sizes) -> bool:
    """Convert the net with some axes of inputs twice as long; add to `found` whether they are free, and return it."""
    shapes = {name: net.blobs[name].shape for name in (*net.inputs, *net.outputs)}
    longer = {name: list(shapes[name]) for name, _ in group}
    for name, axis in group:
        longer[name][axis] *= 2
    try:
        with _resized(net, longer):
            difference = walk.first_difference(_Walk(net, preprocessing))
            reason = f"{difference} depends on it" if difference else ""
            outputs = {name: net.blobs[name].shape for name in net.outputs}
    except MinicaffeError as error:
        reason = str(error)
    if reason:
        found.fixed.update(dict.fromkeys(group, reason))
        return False
    size = shapes[group[0][0]][group[0][1]]
    for name, shape in outputs.items():
        for axis, (one, other) in enumerate(zip(shapes[name], shape)):
            if one != other:
                found.outputs[name, axis] = symbol if (one, other) == (size, 2 * size) else f"{name}_{axis}"
    for each in group:
        found.inputs[each] = symbol
        found.fixed.pop(each, None)
    return True


@contextlib.contextmanager
def _resized(net: Net, shapes: Mapping[str, Sequence[int]]) -> Iterator[None]:
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
