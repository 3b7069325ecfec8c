"""A net as a table: a line for each layer, with its blobs, settings, shape and costs, and the totals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from minicaffe.errors import listed
from minicaffe.pictures.costs import NUMBER_BYTES, LayerCost, NetCosts, Total, net_costs
from minicaffe.pictures.graph import describe, shape_text
from minicaffe.proto import caffe_pb2
from minicaffe.text import printable_line

# ANSI codes: one for each blob in turn, and one for a bottom without a producer.
_COLORS = ("92", "93", "94", "95", "96", "97", "42;30", "43;30", "100", "44", "103;30", "107;30")
_DANGLING = "41"

#: The columns of `summarize_net`; the last four are numbers, memory in bytes.
COLUMNS = (
    "layer", "type", "lr_mult", "bottom", "->", "top", "settings", "shape", "params", "MACs", "top B", "param B"
)  # fmt: skip
_TYPE_COLUMNS = ("type", "layers", "params", "MACs", "top B", "param B")


def summarize_net(
    net: caffe_pb2.NetParameter, colors: bool = False, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> list[list[str]]:
    """Return a row for each layer, with the cells of `COLUMNS`.

    The cells are name, type, names and multipliers of parameters, bottoms, "->", tops, main settings, shape of the
    first top, numbers in the parameters, multiply-accumulates, and bytes of tops and of parameters.  Numbers have three
    digits and a unit: 25.6M.  The cell of a number that is 0 or unknown is empty; `net_costs` returns the numbers.

    net: an upgraded NetParameter.  Control characters in its names are escaped.
    colors: whether to print each blob in its own ANSI colour, unused tops bold and underlined (default False).
    shapes: shapes by blob name, as for `infer_shapes`.
    """
    read = {name for layer in net.layer for name in layer.bottom}
    color_of: dict[str, str] = {}
    table = []
    for layer, cost in zip(net.layer, net_costs(net, shapes).layers):
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
                shape_text(cost.shape),
                *_numbers(cost),
            ]
        )
    return table


def net_table(
    net: caffe_pb2.NetParameter,
    totals: Mapping[str, NetCosts],
    colors: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    max_width: int = 30,
) -> str:
    """Return the text of a table with a header, the rows of `summarize_net`, and totals.

    totals: the costs of a net by the name of their line, such as "total".
    max_width: as for `format_table`; the others as for `summarize_net`.
    """
    rows = summarize_net(net, colors, shapes)
    header = [name if name != "->" and any(row[i] for row in rows) else "" for i, name in enumerate(COLUMNS)]
    sums = [[name, _at_least(costs.total), *[""] * 6, *_numbers(costs.total)] for name, costs in totals.items()]
    return format_table(_aligned([header, *rows, *sums], 4), max_width)


def type_table(costs: NetCosts, max_width: int = 30) -> str:
    """Return the text of a table with a header, a row for each layer type of a net, and the total."""
    totals = [*costs.per_type.items(), ("total", costs.total)]
    rows = [[printable_line(name), str(total.layers), *_numbers(total)] for name, total in totals]
    return format_table(_aligned([list(_TYPE_COLUMNS), *rows], 5), max_width)


def total_text(costs: NetCosts) -> str:
    """Return the totals of a net in words: a line, and a second one if there are layers of which something is unknown.

    With the MACs of one image, where the net computes each image for itself.
    """
    total = costs.total
    learned = "all" if total.learned == total.params else f"{total.learned:,}"
    words = [
        f"{_at_least(total)} {total.params:,} parameters".lstrip() + (f" ({learned} learned)" if total.params else ""),
        f"{units(total.macs)} MACs{_per_image(total.macs, costs.batch)}",
        f"{_memory(total.tops)} of tops, {_memory(total.params)} of parameters",
    ]
    names = listed(map(printable_line, total.unknown), 3)
    unknown = f"\nunknown: {names} (--shape gives the shape of a blob)" if names else ""
    return "; ".join(words) + unknown


def _per_image(macs: int, batch: int | None) -> str:
    if batch is None or not macs:
        return ""
    return f" for {batch} images, {units(macs // batch)} for each" if batch > 1 else " for one image"


def _memory(numbers: int) -> str:
    return units(NUMBER_BYTES * numbers, " ") + "B"


def _at_least(total: Total) -> str:
    return "at least" if total.unknown else ""


def _numbers(cost: LayerCost | Total) -> list[str]:
    """The cells of params, MACs, and the bytes of tops and parameters; '' for 0 and for an unknown number."""
    of_tops, of_params = (NUMBER_BYTES * (count or 0) for count in (cost.tops, cost.params))
    return [units(number) if number else "" for number in (cost.params, cost.macs, of_tops, of_params)]


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


def units(number: int, gap: str = "") -> str:
    """Format a number with three digits and a unit: 950, 1.23k, 25.6M, 3.86G.  gap: text behind the digits."""
    if number < 1000:
        return f"{number}{gap}"
    digits, _, exponent = Decimal(f"{number:.2e}").to_eng_string().partition("E+")
    return f"{digits}{gap}{'kMGTPEZY'[int(exponent) // 3 - 1]}"


def _aligned(rows: Sequence[Sequence[str]], count: int) -> list[list[str]]:
    """The rows with the cells of their last `count` columns aligned right."""
    widths = [max(map(len, column)) for column in list(zip(*rows))[-count:]]
    return [[*row[:-count], *(cell.rjust(width) for cell, width in zip(row[-count:], widths))] for row in rows]


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
