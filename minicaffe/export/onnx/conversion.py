"""The conversion of one layer to ONNX nodes, and the registry of the functions that convert layer types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from minicaffe.core.layer import Layer, Shape
from minicaffe.errors import ExportError
from minicaffe.export.onnx.graph import Graph


class Nodes:
    """Adds nodes and constants to a graph, with names that begin with `name`."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name; attributes as of `Graph.node`."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with `count` outputs and return their names."""
        name = f"{self.name}/{op_type}"
        outputs = [self.graph.unique(f"{name}:{i}") for i in range(count)]
        self.graph.node(op_type, inputs, outputs, name, **attributes)
        return outputs

    def floats(self, values: Any, name: str = "constant") -> str:
        """Add an initializer of float32 numbers and return its name: that of the layer, a dot, and `name`."""
        return self.graph.constant(np.asarray(values, np.float32), f"{self.name}.{name}")

    def ints(self, values: Any, name: str = "sizes") -> str:
        """Add an initializer of int64 numbers, for shapes, axes and indices, and return its name."""
        return self.graph.constant(np.asarray(values, np.int64), f"{self.name}.{name}")


class Conversion(Nodes):
    """A layer of a net in TEST that is being written to a graph.

    layer: the layer, set up, with its parameters.
    bottoms: names of the values that it reads.
    bottom_shapes, top_shapes: as the net has them now.  Sizes that depend on the batch must not become constants: a
        net is exported at two batch sizes, and where the nodes or their constants differ, the batch size is fixed.
    """

    def __init__(
        self,
        graph: Graph,
        layer: Layer,
        bottoms: Sequence[str],
        bottom_shapes: Sequence[Shape],
        top_shapes: Sequence[Shape],
    ) -> None:
        super().__init__(graph, layer.name)
        self.layer: Any = layer  # of one of the converter's types, with their attributes
        self.bottoms = list(bottoms)
        self.bottom_shapes, self.top_shapes = list(bottom_shapes), list(top_shapes)
        self.axis_of_values: int | None = None  #: an axis of the tops whose length depends on values; set by converters

    @property
    def x(self) -> str:
        """The name of the first bottom."""
        return self.bottoms[0]

    def param(self, index: int, shape: Shape | None = None) -> str:
        """Add a parameter blob of the layer as an initializer and return its name, such as "conv1.0".

        shape: for the same numbers, by default the blob's.  A blob that layers share is written once for each shape.
        """
        blob = self.layer.blobs[index]
        key = blob.data_memory, blob.shape if shape is None else shape
        if key not in self.graph.params:
            self.graph.params[key] = self.floats(blob.read_data().reshape(key[1]), str(index))
        return self.graph.params[key]

    def impossible(self, reason: str) -> ExportError:
        """The exception for a layer that ONNX cannot express; reason: a clause that follows the layer's name."""
        return ExportError(f"{self.layer.type} layer '{self.layer.name}': {reason}")


#: Converts a layer; returns the name of the value of its top, or a list of names, one for each top.  A layer that
#: computes nothing returns the names of its bottoms.
Converter = Callable[[Conversion], "str | Sequence[str]"]
F = TypeVar("F", bound=Converter)

_converters: dict[str, Converter] = {}  # by layer type


def exports(*types: str) -> Callable[[F], F]:
    """Function decorator that registers a Converter for layer types."""

    def add(function: F) -> F:
        for each in types:
            if each in _converters:
                raise ValueError(f"two functions convert {each}")
            _converters[each] = function
        return function

    return add


def converter(layer_type: str) -> Converter | None:
    """Return the Converter of a layer type; None if it has none."""
    return _converters.get(layer_type)


def exported_types() -> list[str]:
    """Return the layer types that have a Converter, sorted."""
    return sorted(_converters)
