"""The conversion of a whole net, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from minicaffe.core.net import Net
from minicaffe.errors import ExportError, listed
from minicaffe.export.onnx import layers  # noqa: F401  (registers the converters)
from minicaffe.export.onnx.conversion import Conversion, Nodes, converter
from minicaffe.export.onnx.graph import Dim, Graph
from minicaffe.export.onnx.preprocessing import GraphPreprocessing

Axis = tuple[str, int]  #: an axis of an input or an output: its name and the number of the axis


class Walk:
    """Converts a net layer by layer.

    values: the name of the value that each blob name stands for.
    ends: for each layer, the numbers of nodes and initializers behind it.
    axes_of_values: the blobs with an axis whose length depends on values, and that axis; None if it is not known.
    """

    def __init__(self, net: Net, preprocessing: Mapping[str, GraphPreprocessing]) -> None:
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

    def first_difference(self, other: Walk) -> str | None:
        """Return the first layer that was converted otherwise; None if the nodes and constants are the same."""
        before = (0, 0)
        for layer, end, other_end in zip(self.net.layers, self.ends, other.ends):
            if end != other_end or not self.graph.same(other.graph, before, end):
                return f"{layer.type} layer '{layer.name}'"
            before = end
        return None
