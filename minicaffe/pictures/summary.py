"""A net as a table: one line per layer, with its blobs, main parameters and shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from minicaffe.pictures.graph import describe, shape_text
from minicaffe.pictures.shapes import infer_shapes
from minicaffe.proto import caffe_pb2
from minicaffe.text import printable_line

# ANSI codes: one for each blob in turn, and one for a bottom without a producer.
_COLORS = ("92", "93", "94", "95", "96", "97", "42;30", "43;30", "100", "44", "103;30", "107;30")
_DANGLING = "41"


def summarize_net(
    net: caffe_pb2.NetParameter, colors: bool = False, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> list[list[str]]:
    """Return rows of name, type, learning rates, bottoms, "->", tops, main parameters, shape of the first top.

    net: an upgraded NetParameter.  Control characters in its names are escaped.
    colors: whether to print each blob in its own ANSI colour, unused tops bold and underlined (default False).
    shapes: shapes by blob name, as for `infer_shapes`.
    """
    known = infer_shapes(net, shapes)
    read = {name for layer in net.layer for name in layer.bottom}
    color_of: dict[str, str] = {}
    table = []
    for i, layer in enumerate(net.layer):
        bottoms = [_paint(name, color_of.get(name, _DANGLING), colors) for name in layer.bottom]
        tops = []
        for j, name in enumerate(layer.top):
            color = color_of.setdefault(name, _COLORS[len(color_of) % len(_COLORS)])
            weight = f"{layer.loss_weight[j]:g} * " if j < len(layer.loss_weight) else ""
            tops.append(weight + _paint(name, color if name in read else f"1;4;{color}", colors))
        table.append(
            [
                printable_line(layer.name),
                printable_line(layer.type),
                printable_line(_rates(layer)),
                ", ".join(bottoms),
                "->",
                ", ".join(tops),
                printable_line(describe(layer)),
                shape_text(known.get((i, 0))),
            ]
        )
    return table


def _paint(text: str, color: str, colors: bool) -> str:
    shown = printable_line(text)
    return f"\033[{color}m{shown}\033[0m" if colors else shown


def _rates(layer: caffe_pb2.LayerParameter) -> str:
    """Format the names of parameters and their multipliers other than 1: "(x2, x0 Dx0)"; D is decay_mult."""
    words = []
    for param in layer.param:
        parts = [
            param.name,
            "" if param.lr_mult == 1 else f"x{param.lr_mult:g}",
            "" if param.decay_mult == 1 else f"Dx{param.decay_mult:g}",
        ]
        words.append(" ".join(part for part in parts if part))
    return f"({', '.join(words)})" if any(words) else ""


def format_table(table: Sequence[Sequence[str]], max_width: int = 30) -> str:
    """Format rows as aligned columns, each as wide as its longest cell, at most `max_width`; longer cells overflow."""
    if not table:
        return ""
    widths = [min(max(map(_printed_length, column)) + 1, max_width) for column in zip(*table)]
    lines = []
    for row in table:
        line, end = "", 0
        for cell, width in zip(row, widths):
            end += width
            line += cell + " "
            line += " " * max(end - _printed_length(line), 0)
        lines.append(line.rstrip())
    return "\n".join(lines)


def _printed_length(text: str) -> int:
    return len(re.sub(r"\033\[[\d;]+m", "", text))
