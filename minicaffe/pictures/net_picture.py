"""The drawing of a net: one box per block of layers, and the shape of every blob beside the edge that carries it.

Boxes and labels are measured (`_measure`), the graph is laid out and folded into rows, and a canvas is painted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from minicaffe.core.passes import filter_net
from minicaffe.core.registry import facts_of
from minicaffe.errors import UsageError
from minicaffe.pictures.canvas import Box, Canvas, Point, Spline, Text, rounded, text_width
from minicaffe.pictures.graph import Block, Edge, Port, blocks_and_edges, describe, phases, shape_text
from minicaffe.pictures.layout import Node, layout
from minicaffe.pictures.rows import fold
from minicaffe.proto import caffe_pb2, needs_net_upgrade, upgrade_net

RANKDIRS = ("TB", "BT", "LR", "RL")

MARGIN = 24.0
LONGEST_ROW = 1550.0  # of a drawing to the right or to the left, in points
LONGEST_COLUMN = 4000.0  # of a drawing down or up
EDGE_COLOR = "#7b8794"
LABEL_COLOR = "#52606d"
_LABEL_SIZE = 9.0
_LABEL_HEIGHT = 16.0  # room for a label, along the flow down, across the flow to the right
FAMILY_COLORS = {  # of Layer.family: fill, border
    "weights": ("#dbeafe", "#5b8bd0"),
    "pooling": ("#fde9cf", "#d1944a"),
    "activation": ("#d6f2e3", "#4fa37a"),
    "normalization": ("#d5f0f2", "#4b9ea6"),
    "loss": ("#f9d9de", "#c9626f"),
    "arrangement": ("#e8e0f7", "#8a6dc0"),
    "data": ("#fbf3c4", "#b39a37"),
}
_OTHER = ("#eceff2", "#8793a0")


@dataclass
class _Drawn:
    """A block with its layout node, its lines of text (text, font size, bold) and the size of its box.

    The node is the box with the labels of its tops.
    ports: for each port its index, and where its label begins in a row of them.
    """

    block: Block
    node: Node
    lines: list[tuple[str, float, bool]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    ports: dict[Port, tuple[int, float]] = field(default_factory=dict)


class NetPicture:
    """One drawing: the upgraded and filtered net, its layout, and the methods that paint it.

    Arguments and errors are those of `minicaffe.draw.draw_net`.
    """

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
        nodes = [d.node for d in self.drawn]
        chains = layout(nodes, pairs)
        self.paths = {(a, b): [nodes[a], *chain, nodes[b]] for (a, b), chain in zip(pairs, chains)}
        self.rows = fold(self.paths.values(), nodes, LONGEST_ROW if self.sideways else LONGEST_COLUMN)

    # -- sizes -----------------------------------------------------------------------------------------------------

    def _measure(self, block: Block) -> _Drawn:
        lines = self._lines(block)
        width = max(text_width(text, size, bold) for text, size, bold in lines) + 20
        height = sum(_line_height(size) for _, size, _ in lines) + 8
        ports, places = 0.0, {}
        for i, port in enumerate(block.ports):
            places[port] = i, ports
            ports += _label_width(port, block) + 16
        labels = max((_label_width(port, block) for port in block.ports), default=0.0)
        one = len(block.ports) == 1
        if not self.sideways:
            width = max(width, 0.0 if one else ports)
            node = Node(
                across=max(width, 2 * (labels + 8) if one else 0.0), along=height + _LABEL_HEIGHT * (labels > 0)
            )
        elif one:
            width = max(width, labels)
            node = Node(across=height + 2 * _LABEL_HEIGHT * (labels > 0), along=width)
        else:
            height = max(height, 22.0 * len(block.ports))
            node = Node(across=height, along=width + labels + 8)
        node.outputs = len(block.ports)
        return _Drawn(block, node, lines, width, height, places)

    def _lines(self, block: Block) -> list[tuple[str, float, bool]]:
        main = block.layers[0]
        words = [main.type, describe(main), phases(main) if self.all_phases else ""]
        lines = [(main.name, 11.5, True), ("  ".join(w for w in words if w), 10.0, False)]
        if self.display_lrm and len(main.param):
            lines.append(("lr mult " + ", ".join(f"{p.lr_mult:g}" for p in main.param), 9.0, False))
        for row in block.layers[1:]:
            limits = phases(row) if self.all_phases else ""
            lines.append(("  ".join(w for w in (row.type, describe(row), row.name, limits) if w), 9.0, False))
        return lines

    def canvas(self) -> Canvas:
        """Return the canvas with everything painted on it."""
        length, breadth = self.rows.length, self.rows.breadth
        width, height = (length, breadth) if self.sideways else (breadth, length)
        title = 24.0 if self.title else 0.0
        width = max(width + 2 * MARGIN, text_width(self.title, 14, True) + 2 * MARGIN)
        canvas = Canvas(width, height + 2 * MARGIN + title)
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
            y = self.rows.length - y
        return (y + MARGIN, x + self.top) if self.sideways else (x + MARGIN, y + self.top)

    def _corner(self, drawn: _Drawn) -> Point:
        """The upper left corner of a block's box on the page."""
        node = drawn.node
        across, along = (drawn.height, drawn.width) if self.sideways else (drawn.width, drawn.height)
        x0, y0 = self._point(node.x - across / 2, node.y)
        x1, y1 = self._point(node.x + across / 2, node.y + along)
        return min(x0, x1), min(y0, y1)

    def _end_of_box(self, drawn: _Drawn) -> float:
        """The coordinate along the flow at which a block's box ends."""
        return drawn.node.y + (drawn.width if self.sideways else drawn.height)

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
            node, drawn = self.drawn[target].node, self.drawn[target]
            room = (drawn.height if self.sideways else drawn.width) * 0.7 / len(edges)
            for i, edge in enumerate(edges):
                self._paint_edge(canvas, edge, node.x + (i - (len(edges) - 1) / 2) * min(16.0, room))

    def _comes_from(self, edge: Edge) -> float:
        before = self.paths[edge.source, edge.target][-2]
        return before.x if before.dummy else self._port_at(self.drawn[edge.source], edge.port)

    def _paint_edge(self, canvas: Canvas, edge: Edge, end_x: float) -> None:
        source, path = self.drawn[edge.source], self.paths[edge.source, edge.target]
        x = self._port_at(source, edge.port)
        start = self._point(x, self._end_of_box(source))
        steps: list[tuple[Point, ...]] = []
        for before, after in pairwise(path):
            to = end_x if after is path[-1] else after.x
            steps.append((self._point(x, before.end),))
            lane = self.rows.lanes.get((before, after))
            if lane is None:
                steps.append(self._bend(x, before.end, to, after.y))
            else:
                corners = [(x, before.end), (x, lane.out), (lane.between, lane.out), (lane.between, lane.into)]
                steps += rounded([self._point(*corner) for corner in [*corners, (to, lane.into), (to, after.y)]])
            x = to
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
        """Write the shape of each top, with its name if that differs from the layer's.

        It is beside the edge at its port; where the flow is to the right, that of an only top is below the box.
        """
        for port in drawn.block.ports:
            label = _label(port, drawn.block)
            x, y = self._point(self._port_at(drawn, port), self._end_of_box(drawn))
            if self.sideways and len(drawn.block.ports) == 1:
                left, top = self._corner(drawn)
                x, y = left + (drawn.width - _label_width(port, drawn.block)) / 2, top + drawn.height + 12
            else:
                back = _label_width(port, drawn.block)
                dx, dy = {"TB": (5, 12), "BT": (5, -6), "LR": (5, -4), "RL": (-5 - back, -4)}[self.rankdir]
                x, y = x + dx, y + dy
            if label:
                canvas.add(Text(x, y, label, _LABEL_SIZE, LABEL_COLOR))


def _colors(layer) -> tuple[str, str]:
    """Fill and border of a layer's box, by the family of its type."""
    return FAMILY_COLORS.get(facts_of(layer.type).family, _OTHER)


def _line_height(size: float) -> float:
    return size * 1.45


def _label(port: Port, block: Block) -> str:
    name = "" if port.blob == block.layers[0].name and len(block.ports) == 1 else port.blob
    return " ".join(word for word in (name, shape_text(port.shape)) if word)


def _label_width(port: Port, block: Block) -> float:
    return text_width(_label(port, block), _LABEL_SIZE)
