"""Drawings of nets: pycaffe's `caffe.draw`, with a renderer that needs neither pydot nor graphviz.

`draw_net` and `draw_net_to_file` draw one box per block, a layer with the layers that work in place on its top, and
the shape of every blob on its edge.  `get_pydot_graph` builds pycaffe's graph for use with pydot (`pip install pydot`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from minicaffe.core.passes import filter_net
from minicaffe.core.registry import facts_of
from minicaffe.errors import UsageError
from minicaffe.files import write_atomically
from minicaffe.pictures.canvas import Box, Canvas, Point, Spline, Text, text_width
from minicaffe.pictures.graph import Block, Edge, Port, blocks_and_edges, describe, phases, shape_text
from minicaffe.pictures.layout import Node, layout
from minicaffe.pictures.pydot_graph import (  # noqa: F401  (part of pycaffe's caffe.draw)
    BLOB_STYLE,
    LAYER_STYLE_DEFAULT,
    NEURON_LAYER_STYLE,
    choose_color_by_layertype,
    get_edge_label,
    get_layer_label,
    get_layer_lr_mult,
    get_pooling_types_dict,
    get_pydot_graph,
)
from minicaffe.proto import caffe_pb2, needs_net_upgrade, upgrade_net

RANKDIRS = ("TB", "BT", "LR", "RL")
OWN_FORMATS = ("svg", "png", "pdf", "jpg", "jpeg", "webp", "tiff", "bmp", "gif")

MARGIN = 24.0
EDGE_COLOR = "#7b8794"
_FAMILY_COLORS = {  # of Layer.family: fill, border
    "weights": ("#dbeafe", "#5b8bd0"),
    "pooling": ("#fde9cf", "#d1944a"),
    "activation": ("#d6f2e3", "#4fa37a"),
    "normalization": ("#d5f0f2", "#4b9ea6"),
    "loss": ("#f9d9de", "#c9626f"),
    "arrangement": ("#e8e0f7", "#8a6dc0"),
    "data": ("#fbf3c4", "#b39a37"),
}
_OTHER = ("#eceff2", "#8793a0")


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str = "TB",
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> bytes:
    """Draw a NetParameter; return the bytes of an image file.

    caffe_net: the NetParameter; a net in an old format is upgraded first.
    rankdir: direction of the data flow: TB (default, top to bottom), BT, LR or RL.
    ext: the format: svg, png (default), pdf, jpg, jpeg, webp, tiff, bmp or gif; pydot and graphviz write any other.
    phase: minicaffe.TRAIN or TEST to draw the net of that phase; None (default) draws all layers.
    display_lrm: whether to write the learning-rate multipliers into the layers that have them (default False).
    shapes: shapes by blob name, for blobs whose shape the prototxt does not define, such as tops of Data layers.
    UsageError for an unknown rankdir.
    """
    if ext.lower() not in OWN_FORMATS:
        return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)
    return _Picture(caffe_net, rankdir, phase, display_lrm, shapes).canvas().encode(ext.lower())


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Draw a net into a file; its extension is the format, ".raw" is graphviz's dot text, written by pydot.

    Other arguments as for `draw_net`, but `rankdir` is LR by default, as in pycaffe.
    UsageError for a name without an extension, DataError when the file cannot be written.
    """
    ext = os.path.splitext(filename)[1].removeprefix(".")
    if not ext:
        raise UsageError(f"draw: '{filename}' has no extension to select the format, such as .svg or .png")
    write_atomically(filename, draw_net(caffe_net, rankdir, ext, phase, display_lrm, shapes))


@dataclass
class _Drawn:
    """A block with its layout node, its lines of text (text, font size, bold) and the size of its box.

    ports: for each port its index, and where its label begins in a row of them.
    """

    block: Block
    node: Node
    lines: list[tuple[str, float, bool]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    ports: dict[Port, tuple[int, float]] = field(default_factory=dict)


class _Picture:
    """One drawing: the upgraded and filtered net, its layout, and the methods that paint it."""

    def __init__(self, caffe_net, rankdir: str, phase: int | None, display_lrm: bool, shapes) -> None:
        if rankdir not in RANKDIRS:
            raise UsageError(f"draw: rankdir must be one of {', '.join(RANKDIRS)}, got {rankdir!r}")
        self.rankdir, self.sideways = rankdir, rankdir in ("LR", "RL")
        self.display_lrm = display_lrm
        net = caffe_pb2.NetParameter()
        net.CopyFrom(caffe_net)
        if needs_net_upgrade(net):
            upgrade_net(net)
        self.all_phases = phase is None
        if phase is not None:
            net.state.phase = phase
            net = filter_net(net)
        self.title = net.name
        self.blocks, self.edges = blocks_and_edges(net, shapes)
        self.drawn = [self._measure(block) for block in self.blocks]
        pairs = list(dict.fromkeys((e.source, e.target) for e in self.edges))
        chains = layout([d.node for d in self.drawn], pairs)
        self.chains = dict(zip(pairs, chains))
        self.length = max((d.node.y + d.node.along for d in self.drawn), default=0.0)
        self.breadth = max((n.x + n.across / 2 for d in self.drawn for n in (d.node,)), default=0.0)
        self.breadth = max([self.breadth, *(n.x for chain in chains for n in chain)])

    # -- sizes -----------------------------------------------------------------------------------------------------

    def _measure(self, block: Block) -> _Drawn:
        main = block.layers[0]
        words = [main.type, describe(main), phases(main) if self.all_phases else ""]
        lines = [(main.name, 11.5, True), ("  ".join(w for w in words if w), 10.0, False)]
        if self.display_lrm and len(main.param):
            lines.append(("lr mult " + ", ".join(f"{p.lr_mult:g}" for p in main.param), 9.0, False))
        for row in block.layers[1:]:
            limits = phases(row) if self.all_phases else ""
            lines.append(("  ".join(w for w in (row.type, describe(row), row.name, limits) if w), 9.0, False))
        width = max(text_width(text, size, bold) for text, size, bold in lines) + 20
        height = sum(_line_height(size) for _, size, _ in lines) + 8
        ports, places = 0.0, {}
        for i, port in enumerate(block.ports):
            places[port] = i, ports
            ports += _label_width(port) + 16
        if self.sideways:
            height = max(height, 22.0 * len(block.ports))
            node = Node(across=height, along=width + max([0, *map(_label_width, block.ports)]))
        else:
            width = max(width, ports)
            node = Node(across=width, along=height)
        return _Drawn(block, node, lines, width, height, places)

    def canvas(self) -> Canvas:
        """Return the canvas with everything painted on it."""
        width, height = (self.length, self.breadth) if self.sideways else (self.breadth, self.length)
        title = 24.0 if self.title else 0.0
        tail = 22.0 if self.rankdir == "TB" else 0.0  # for the shapes of the outputs, below the last boxes
        width = max(width + 2 * MARGIN, text_width(self.title, 14, True) + 2 * MARGIN)
        canvas = Canvas(width, height + 2 * MARGIN + title + tail)
        self.top = MARGIN + title
        if self.title:
            canvas.add(Text(MARGIN, MARGIN + 6, self.title, 14, bold=True))
        self._paint_edges(canvas)
        for drawn in self.drawn:
            self._paint_block(canvas, drawn)
        for drawn in self.drawn:
            self._paint_labels(canvas, drawn)
        return canvas

    # -- from flow coordinates to the page -------------------------------------------------------------------------

    def _point(self, x: float, y: float) -> Point:
        """Convert flow coordinates (across, along) to page coordinates."""
        if self.rankdir in ("BT", "RL"):
            y = self.length - y
        return (y + MARGIN, x + self.top) if self.sideways else (x + MARGIN, y + self.top)

    def _corner(self, drawn: _Drawn) -> Point:
        """The upper left corner of a block's box on the page."""
        node = drawn.node
        along = drawn.width if self.sideways else drawn.height
        x0, y0 = self._point(node.x - node.across / 2, node.y)
        x1, y1 = self._point(node.x + node.across / 2, node.y + along)
        return min(x0, x1), min(y0, y1)

    def _port_at(self, drawn: _Drawn, port: Port) -> float:
        """The coordinate across the flow at which a blob's edges leave its block."""
        ports, node = drawn.block.ports, drawn.node
        if len(ports) == 1:
            return node.x
        left, (before, start) = node.x - node.across / 2, drawn.ports[port]
        if self.sideways:
            return left + node.across * (before + 0.5) / len(ports)
        return left + 8 + start

    # -- paint -----------------------------------------------------------------------------------------------------

    def _paint_edges(self, canvas: Canvas) -> None:
        arriving: dict[int, list[Edge]] = {}
        for edge in self.edges:
            arriving.setdefault(edge.target, []).append(edge)
        for target, edges in arriving.items():
            edges.sort(key=self._comes_from)
            node = self.drawn[target].node
            for i, edge in enumerate(edges):
                end = node.x + (i - (len(edges) - 1) / 2) * min(16.0, node.across * 0.7 / len(edges))
                self._paint_edge(canvas, edge, end)

    def _comes_from(self, edge: Edge) -> float:
        chain = self.chains[edge.source, edge.target]
        return chain[-1].x if chain else self._port_at(self.drawn[edge.source], edge.port)

    def _paint_edge(self, canvas: Canvas, edge: Edge, end_x: float) -> None:
        source, target = self.drawn[edge.source], self.drawn[edge.target]
        x = self._port_at(source, edge.port)
        y = source.node.y + (source.width if self.sideways else source.height)
        start, steps = self._point(x, y), []
        for dummy in self.chains[edge.source, edge.target]:
            steps.append(self._bend(x, y, dummy.x, dummy.y))
            x, y = dummy.x, dummy.y + dummy.along
            steps.append((self._point(x, y),))
        steps.append(self._bend(x, y, end_x, target.node.y))
        canvas.add(Spline(start, steps, EDGE_COLOR))

    def _bend(self, x0: float, y0: float, x1: float, y1: float) -> tuple[Point, ...]:
        middle = (y0 + y1) / 2
        return self._point(x0, middle), self._point(x1, middle), self._point(x1, y1)

    def _paint_block(self, canvas: Canvas, drawn: _Drawn) -> None:
        x, y = self._corner(drawn)
        fill, border = _colors(drawn.block.layers[0])
        canvas.add(Box(x, y, drawn.width, drawn.height, fill, border, 4))
        rows = len(drawn.block.layers) - 1
        line_y = y + 4
        for i, (text, size, bold) in enumerate(drawn.lines):
            height = _line_height(size)
            row = i - (len(drawn.lines) - rows)
            if row >= 0:
                tint, _ = _colors(drawn.block.layers[row + 1])
                canvas.add(Box(x + 4, line_y + 1, drawn.width - 8, height - 1, tint, "#ffffff", 2))
            canvas.add(Text(x + drawn.width / 2, line_y + height * 0.74, text, size, bold=bold, anchor="middle"))
            line_y += height

    def _paint_labels(self, canvas: Canvas, drawn: _Drawn) -> None:
        """Write the shape of each top beside its port, with its name if that differs from the layer's."""
        along = drawn.width if self.sideways else drawn.height
        for port in drawn.block.ports:
            label = _label(port, drawn.block)
            if not label:
                continue
            x, y = self._point(self._port_at(drawn, port), drawn.node.y + along)
            dx, dy = {"TB": (5, 13), "BT": (5, -7), "LR": (5, -4), "RL": (-5 - text_width(label, 9), -4)}[self.rankdir]
            canvas.add(Text(x + dx, y + dy, label, 9, "#52606d", halo=True))


def _colors(layer) -> tuple[str, str]:
    """Fill and border of a layer's box, by the family of its type."""
    return _FAMILY_COLORS.get(facts_of(layer.type).family, _OTHER)


def _line_height(size: float) -> float:
    return size * 1.45


def _label(port: Port, block: Block) -> str:
    name = "" if port.blob == block.layers[0].name and len(block.ports) == 1 else port.blob
    return " ".join(word for word in (name, shape_text(port.shape)) if word)


def _label_width(port: Port) -> float:
    return text_width(f"{port.blob} {shape_text(port.shape)}", 9)
