"""Nets and solvers as HTML for notebooks: drawings, tables of layers, curves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from html import escape
from typing import Any

from minicaffe.core.net import Net
from minicaffe.core.passes import remove_splits
from minicaffe.draw import draw_net
from minicaffe.pictures.costs import net_costs
from minicaffe.pictures.parse_log import Curve
from minicaffe.pictures.plot import plot_runs
from minicaffe.pictures.summary import COLUMNS, summarize_net, total_text
from minicaffe.proto import caffe_pb2
from minicaffe.solvers.curves import Series
from minicaffe.text import printable_line

_MOST_LAYERS = 600  #: that are drawn and listed; more would make a notebook slow
_MOST_OUTPUTS = 20  #: of test nets, as curves
_NUMBERS = 4  #: columns of numbers, at the right

_SCROLLED = "max-height: 32em; overflow: auto; border: 1px solid #d5dbe1; margin: 0.4em 0"
_CELL = "padding: 0.1em 0.6em; white-space: nowrap"


def net_html(net: Net) -> str:
    """Return a net's drawing and its table of layers, each in a box that scrolls; without Splits that were inserted.

    Of more than 600 layers, the first are in the table, and there is no drawing.
    """
    param = remove_splits(net.param)
    shapes = {name: net.blobs[name].shape for layer in param.layer if not layer.bottom for name in layer.top}
    phase = caffe_pb2.Phase.Name(net.phase)
    count = len(param.layer)
    title = f"{net.name or 'net'} ({phase}): {count} layer{'s' * (count != 1)}"
    parts = [f"<b>{_text(title)}</b><br>{_text(total_text(net_costs(param, shapes)))}"]
    if count <= _MOST_LAYERS:
        parts.append(f'<div style="{_SCROLLED}">{draw_net(param, ext="svg", shapes=shapes).decode()}</div>')
    else:
        parts.append(f"<div>not drawn: it has more than {_MOST_LAYERS} layers; minicaffe.draw draws it to a file</div>")
        del param.layer[_MOST_LAYERS:]
    parts.append(f'<div style="{_SCROLLED}">{_table(param, shapes)}</div>')
    if count > _MOST_LAYERS:
        parts.append(f"<div>and {count - _MOST_LAYERS} more layers</div>")
    return f"<div>{''.join(parts)}</div>"


def _table(param: caffe_pb2.NetParameter, shapes: dict[str, tuple[int, ...]]) -> str:
    header = ["" if name == "->" else name for name in COLUMNS]
    rows = [_row(header, "th"), *(_row(row, "td") for row in summarize_net(param, shapes=shapes))]
    return f'<table style="border-collapse: collapse; font-size: 90%">{"".join(rows)}</table>'


def _row(cells: Any, tag: str) -> str:
    texts = []
    for i, cell in enumerate(cells):
        side = "right" if i >= len(cells) - _NUMBERS else "left"
        texts.append(f'<{tag} style="{_CELL}; text-align: {side}">{_text(cell)}</{tag}>')
    return f"<tr>{''.join(texts)}</tr>"


def _text(text: str) -> str:
    return escape(printable_line(text))


def solver_html(solver: Any) -> str:
    """Return a line about a solver, and the curves of its training so far: losses, scores of tests, learning rate."""
    total = solver.param.max_iter
    where = f"iteration {solver.iter} of {total}, learning rate {solver.lr:.4g}"
    parts = [f"<b>{_text(solver.title)}</b>: {_text(where)}"]
    curves = list(_curves(solver))
    if curves:
        figure = plot_runs([curves], labels=[""])
        parts.append(f"<div>{_svg(figure)}</div>")
    return f"<div>{''.join(parts)}</div>"


def _curves(solver: Any) -> Iterator[Curve]:
    """Yield the curves of a solver that have points, of tests at most twenty."""
    kept = solver.curves
    yield from _with_points(Curve("loss", "loss", "Train"), kept.loss)
    yield from _with_points(Curve("rate", "rate", "Train"), kept.rate)
    for (net_id, name), series in list(kept.tests.items())[:_MOST_OUTPUTS]:
        is_loss = name.endswith("loss") or solver.test_nets[net_id].blob_loss_weights.get(name)
        yield from _with_points(
            Curve(f"{name} (#{net_id})" if net_id else name, "loss" if is_loss else "score", "Test"), series
        )


def _with_points(curve: Curve, series: Series) -> Iterator[Curve]:
    for iteration, value in series.points:
        curve.add(iteration, 0.0, value)
    if curve.values:
        yield curve


def _svg(figure: Any) -> str:
    """Return a figure as an SVG element."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
