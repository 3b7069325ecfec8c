"""Convert a NetParameter to a graph of blocks of layers, with blobs as edges.

A block is a layer with the layers that work in place on its top: a convolution, BatchNorm, Scale and ReLU on one blob
are one block of four rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minicaffe.core.registry import facts_of
from minicaffe.pictures.shapes import infer_shapes
from minicaffe.proto import caffe_pb2

Shape = tuple[int, ...]


@dataclass(eq=False)
class Port:
    """An output blob of a block: its name, its shape (None if unknown), whether a layer reads it, its loss weight."""

    blob: str
    shape: Shape | None
    read: bool = False
    loss_weight: float = 0.0


@dataclass(eq=False)
class Block:
    """A layer and the layers that work in place on its top."""

    layers: list[caffe_pb2.LayerParameter]
    ports: list[Port] = field(default_factory=list)


@dataclass
class Edge:
    """A blob between two blocks, which are given by their indices."""

    source: int
    port: Port
    target: int


def blocks_and_edges(
    net_param: caffe_pb2.NetParameter, given_shapes: Mapping[str, Shape] | None = None
) -> tuple[list[Block], list[Edge]]:
    """Return the blocks of an upgraded NetParameter, in order of its layers, and the edges between them.

    given_shapes: as for `infer_shapes`.
    If two layers with include or exclude rules, for TRAIN and TEST, produce the same blob, both have an edge to its
    readers.  A bottom without a producer has no edge.
    """
    shapes = infer_shapes(net_param, given_shapes)
    blocks: list[Block] = []
    edges: list[Edge] = []
    makers: dict[str, list[tuple[int, Port]]] = {}
    for i, layer in enumerate(net_param.layer):
        home = _in_place_home(layer, makers)
        if home is not None:
            blocks[home[0]].layers.append(layer)
            continue
        block = Block([layer])
        for bottom in layer.bottom:
            for source, port in makers.get(bottom, ()):
                if _never_together(blocks[source].layers[0], layer):
                    continue
                port.read = True
                edges.append(Edge(source, port, len(blocks)))
        for j, top in enumerate(layer.top):
            port = Port(top, shapes.get((i, j)))
            port.loss_weight = layer.loss_weight[j] if j < len(layer.loss_weight) else 0.0
            block.ports.append(port)
            others = makers.get(top, []) if _depends_on_state(layer) and top not in layer.bottom else []
            makers[top] = [*others, (len(blocks), port)]
        blocks.append(block)
    return blocks, edges


def _in_place_home(layer: caffe_pb2.LayerParameter, makers: Mapping) -> tuple[int, Port] | None:
    """Return the (block index, port) whose blob this layer modifies in place; None if it needs a block of its own."""
    if len(layer.bottom) != 1 or list(layer.top) != list(layer.bottom):
        return None
    sources = makers.get(layer.bottom[0], [])
    return sources[0] if len(sources) == 1 and not sources[0][1].read else None


def _never_together(one: caffe_pb2.LayerParameter, other: caffe_pb2.LayerParameter) -> bool:
    """Whether the include rules of two layers name disjoint phases, so that no net contains both."""
    first, second = ({rule.phase for rule in layer.include if rule.HasField("phase")} for layer in (one, other))
    return bool(first and second and not first & second)


def _depends_on_state(layer: caffe_pb2.LayerParameter) -> bool:
    return bool(layer.include or layer.exclude)


# -- words -------------------------------------------------------------------------------------------------------------


def describe(layer: caffe_pb2.LayerParameter) -> str:
    """Return the main parameters of a layer as text: "64 3×3 /2 pad 1" for a convolution, "MAX 3×3 /2", "0.5".

    '' for an unknown type and for types without such a text.
    """
    return facts_of(layer.type).describe(layer)


def phases(layer: caffe_pb2.LayerParameter) -> str:
    """Return the phases and stages in a layer's include and exclude rules as text; '' for a layer without rules."""
    words = []
    for rules, prefix in ((layer.include, ""), (layer.exclude, "not ")):
        for rule in rules:
            if rule.HasField("phase"):
                words.append(prefix + caffe_pb2.Phase.Name(rule.phase))
            words += [prefix + stage for stage in rule.stage] + [f"{prefix}not {stage}" for stage in rule.not_stage]
    return ", ".join(words)


def shape_text(shape: Shape | None) -> str:
    """Format a shape: (64, 3, 32, 32) as "64×3×32×32", () as "scalar", None as ''."""
    if shape is None:
        return ""
    return "×".join(map(str, shape)) or "scalar"
