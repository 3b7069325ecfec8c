"""An ONNX graph that grows node by node, each value with a unique name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minicaffe.core.memory import Memory
from minicaffe.export.onnx import onnx_pb2

#: ONNX element types of the numpy types that are written
ELEMENT_TYPES = {
    np.dtype(np.float32): onnx_pb2.TensorProto.FLOAT,
    np.dtype(np.int64): onnx_pb2.TensorProto.INT64,
    np.dtype(np.bool_): onnx_pb2.TensorProto.BOOL,
}

Dim = int | str  #: of a shape: a size, or the name of a free one


class Graph:
    """A GraphProto, `proto`, under construction.

    name: of the graph.
    parent: the graph that has this one as an attribute of a node, as Scan has its body; its names are not used again.
    params: the initializers of parameter blobs, by memory and shape.
    """

    def __init__(self, name: str, parent: Graph | None = None) -> None:
        self.proto = onnx_pb2.GraphProto(name=name)
        self.params: dict[tuple[Memory, tuple[int, ...]], str] = {}
        self._names: set[str] = set() if parent is None else parent._names
        self._constants: set[str] = set()

    def unique(self, name: str) -> str:
        """Return `name`, or a name made from it that the graph does not have yet, and reserve it."""
        candidate, n = name, 1
        while candidate in self._names:
            n += 1
            candidate = f"{name}_{n}"
        self._names.add(candidate)
        return candidate

    def reserve(self, name: str) -> str:
        """Return `name`, which no other value gets from here on."""
        self._names.add(name)
        return name

    def constant(self, values: Any, name: str) -> str:
        """Add an initializer and return its name.

        values: array of float32, int64 or bool; float64 is converted to float32.
        name: made unique.
        """
        array = np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = self.unique(name)
        self._constants.add(name)
        self.proto.initializer.add(
            name=name, dims=array.shape, data_type=ELEMENT_TYPES[array.dtype], raw_data=little_endian(array)
        )
        return name

    def node(self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Any) -> None:
        """Add a node.

        inputs: names of values; "" for an optional one that is left out.  outputs: names, reserved before.
        name: of the node, made unique.
        attributes: int, float, str, a sequence of one of them, or a Graph; those that are None are left out.
        """
        node = self.proto.node.add(op_type=op_type, name=self.unique(name), input=inputs, output=outputs)
        for key, value in attributes.items():
            if value is not None:
                node.attribute.append(_attribute(key, value))

    def input(self, name: str, shape: Sequence[Dim], dtype: np.typing.DTypeLike = np.float32) -> str:
        """Add an input and return its name, which was reserved before."""
        self.proto.input.append(_value_info(name, shape, dtype))
        return name

    def output(self, name: str, shape: Sequence[Dim] | None, dtype: np.typing.DTypeLike = np.float32) -> None:
        """Make a value an output; shape: None if it is not known."""
        self.proto.output.append(_value_info(name, shape, dtype))

    def is_constant(self, name: str) -> bool:
        """Whether a value is an initializer."""
        return name in self._constants

    def same(self, other: Graph, begin: tuple[int, int], end: tuple[int, int]) -> bool:
        """Whether another graph has the same nodes and initializers, in order, in a range of their indices."""
        return all(
            one == two
            for kind, first, last in zip(("node", "initializer"), begin, end)
            for one, two in zip(getattr(self.proto, kind)[first:last], getattr(other.proto, kind)[first:last])
        )

    def prune(self) -> set[str]:
        """Remove nodes and initializers that no output depends on; return the names of the values that are left."""
        read = {output.name for output in self.proto.output}
        nodes = []
        for node in reversed(self.proto.node):
            if not read.isdisjoint(node.output):
                nodes.append(node)
                read.update(_inputs(node))
        kept = [tensor for tensor in self.proto.initializer if tensor.name in read]
        for kind, left in (("node", nodes[::-1]), ("initializer", kept)):
            if len(left) < len(getattr(self.proto, kind)):
                copies = [type(each).FromString(each.SerializeToString()) for each in left]
                self.proto.ClearField(kind)
                getattr(self.proto, kind).extend(copies)
        return read

    def rename(self, old: str, new: str) -> None:
        """Rename the output of a node, also where later nodes of this graph read it."""
        for node in reversed(self.proto.node):
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]
            if new in node.output:
                return
        raise KeyError(old)


def _inputs(node: onnx_pb2.NodeProto) -> Iterator[str]:
    """Yield the values that a node reads, those that its subgraphs read from around them included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _inputs(inner)
        yield from (output.name for output in attribute.g.output)


def little_endian(array: np.ndarray) -> bytes:
    """Return the numbers of an array, in C order, in the byte order of ONNX and safetensors."""
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes()


def _attribute(key: str, value: Any) -> Any:
    proto = onnx_pb2.AttributeProto
    if isinstance(value, Graph):
        return proto(name=key, g=value.proto, type=proto.GRAPH)
    if isinstance(value, str):
        return proto(name=key, s=value.encode(), type=proto.STRING)
    if isinstance(value, (bool, int, np.integer)):
        return proto(name=key, i=int(value), type=proto.INT)
    if isinstance(value, (float, np.floating)):
        return proto(name=key, f=float(value), type=proto.FLOAT)
    return _list_attribute(key, list(value))


def _list_attribute(key: str, values: Iterable[Any]) -> Any:
    proto, values = onnx_pb2.AttributeProto, list(values)
    if all(isinstance(each, str) for each in values):
        return proto(name=key, strings=[each.encode() for each in values], type=proto.STRINGS)
    if all(isinstance(each, (int, np.integer)) for each in values):
        return proto(name=key, ints=[int(each) for each in values], type=proto.INTS)
    return proto(name=key, floats=[float(each) for each in values], type=proto.FLOATS)


def _value_info(name: str, shape: Sequence[Dim] | None, dtype: np.typing.DTypeLike) -> Any:
    info = onnx_pb2.ValueInfoProto(name=name)
    info.type.tensor_type.elem_type = ELEMENT_TYPES[np.dtype(dtype)]
    if shape is None:
        return info
    dims = info.type.tensor_type.shape.dim
    del dims[:]  # a shape without dimensions, of a scalar, is set too
    for size in shape:
        dims.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})
    return info
