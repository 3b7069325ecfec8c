"""The layers of a net as a graph that can be changed: values in place of blob names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.core.flow import Flow
from minicaffe.core.layer import Layer, Shape
from minicaffe.proto.caffe_pb2 import LayerParameter, NetParameter
from minicaffe.proto.upgrade_forks import clear_marks


@dataclass(eq=False)
class Value:
    """What a layer writes to a top.

    name: that of the blob, which may stand for several values if layers work in place.  shape: its shape, with the
    net's batch size.  place: of the layer and the top by which it was first written.  producer: the layer's Node.
    """

    name: str
    shape: Shape
    place: tuple[int, int]
    producer: Node


@dataclass(eq=False)
class Node:
    """A layer.

    message: its LayerParameter; bottoms, tops and blobs in it are not used.
    layer: the layer of the net from which the graph was made; index: its index there.
    blobs: its parameters: views of the net's, in float32, until they are replaced.
    """

    message: LayerParameter
    layer: Layer
    index: int
    blobs: list[np.ndarray]
    bottoms: list[Value] = field(default_factory=list)
    tops: list[Value] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Type and name, for messages."""
        return f"{self.message.type} '{self.message.name}'"

    @property
    def passes_through(self) -> bool:
        """Whether each top is equal to the bottom: a Split, or a Dropout or SpatialDropout in TEST."""
        drops = self.message.type in ("Dropout", "SpatialDropout")
        return self.message.type == "Split" or (drops and self.layer.passes_through)

    @property
    def is_source(self) -> bool:
        """Whether it is an input or a data layer: it reads no blob and has no parameters."""
        return not self.bottoms and not self.blobs

    def as_input(self) -> Node:
        """Return an Input layer of the same name with the same tops."""
        message = LayerParameter(name=self.message.name, type="Input")
        for value in self.tops:
            message.input_param.shape.add(dim=value.shape)
        return Node(message, self.layer, self.index, [], [], self.tops)


class LayerGraph:
    """The layers of a net in TEST.

    head: a NetParameter with what is not in layers.  nodes: the layers in order.  outputs: the values that none reads.
    """

    def __init__(self, head: NetParameter, nodes: list[Node], outputs: list[Value]) -> None:
        self.head, self.nodes, self.outputs = head, nodes, outputs

    @classmethod
    def of(cls, net: Any) -> LayerGraph:
        """The graph of a net with its weights, which is not changed."""
        head = NetParameter()
        head.CopyFrom(net.param)
        del head.layer[:]
        flow, nodes = Flow(net.param), list[Node]()
        for source, layer, bottoms, tops in zip(net.param.layer, net.layers, flow.sources, net.tops, strict=True):
            message = LayerParameter()
            message.CopyFrom(source)
            for name in ("phase", "include", "exclude", "blobs"):  # all layers are those of this phase
                message.ClearField(name)
            node = Node(message, layer, len(nodes), [blob.read_data() for blob in layer.blobs])
            node.bottoms = [nodes[value.layer].tops[value.top] for value in bottoms if value is not None]
            named = enumerate(zip(source.top, tops))
            node.tops = [Value(name, blob.shape, (len(nodes), j), node) for j, (name, blob) in named]
            nodes.append(node)
        return cls(head, nodes, [nodes[value.layer].tops[value.top] for value in flow.outputs()])

    def uses(self, value: Value) -> Iterator[tuple[Node, int]]:
        """Yield the nodes that read a value, with the index of the bottom."""
        for node in self.nodes:
            for i, bottom in enumerate(node.bottoms):
                if bottom is value:
                    yield node, i

    def readers(self, value: Value) -> list[Node]:
        """Return the nodes that read a value, once for each bottom."""
        return [node for node, _ in self.uses(value)]

    def replace(self, old: Value, new: Value) -> None:
        """Let all that read `old` read `new`; if `old` was an output, `new` is."""
        for node, i in list(self.uses(old)):
            node.bottoms[i] = new
        self.outputs = [new if value is old else value for value in self.outputs]

    def give_tops(self, node: Node, to: Node) -> None:
        """Let `to` write the tops of `node`, and remove `node`."""
        to.tops = node.tops
        for value in to.tops:
            value.producer = to
        self.nodes.remove(node)

    def param(self) -> NetParameter:
        """Return the layers as a NetParameter without weights."""
        param = NetParameter()
        param.CopyFrom(self.head)
        for node in self.nodes:
            message = param.layer.add()
            message.CopyFrom(node.message)
            message.ClearField("bottom")
            message.ClearField("top")
            message.bottom.extend(value.name for value in node.bottoms)
            message.top.extend(value.name for value in node.tops)
        clear_marks(param)
        return param

    def pairs(self, net: Any) -> Iterator[tuple[Node, Layer]]:
        """Yield the nodes with their layers in a net that was built from `param()`, without Splits."""
        nodes = (node for node in self.nodes if node.message.type != "Split")
        yield from zip(nodes, (layer for layer in net.layers if layer.type != "Split"), strict=True)

    def fill(self, net: Any, dtype: Any = np.float32) -> None:
        """Copy the parameters, rounded to a dtype, to a net that was built from `param()`, itself of any dtype."""
        for node, layer in self.pairs(net):
            for values, blob in zip(node.blobs, layer.blobs, strict=True):
                blob.data = values.astype(dtype)
