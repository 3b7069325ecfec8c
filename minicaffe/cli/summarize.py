"""`minicaffe summarize`: print a net, or the nets of a solver, as a table with parameters, MACs and memory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from minicaffe.cli.command import FlagParser, command
from minicaffe.cli.shared_flags import skip_flag
from minicaffe.core.passes import filter_net
from minicaffe.errors import PrototxtError
from minicaffe.pictures.costs import NetCosts, net_costs
from minicaffe.pictures.shapes import Shape, parse_shapes
from minicaffe.pictures.summary import net_table, total_text, type_table
from minicaffe.proto import caffe_pb2, read_net
from minicaffe.solvers.nets import SolverNets, is_solver, load
from minicaffe.text import printable_line

_EXAMPLES = """
  minicaffe summarize my_net/deploy.prototxt
  minicaffe summarize train_val.prototxt --phase TRAIN --shape data=256,3,227,227
  minicaffe summarize solver.prototxt --per-type
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.argument("filename", metavar="NET", help="prototxt of the net, or of a solver")
    flags.switch("per_type", "print a line for each layer type, not for each layer")
    flags.flag(
        "max_width", also=["-w"], type=int, default=30, metavar="N", help="no column wider than this (default 30)"
    )
    flags.flag("phase", choices=("TRAIN", "TEST", "ALL"), default="ALL", help="the layers of this phase (default ALL)")
    flags.flag(
        "shape",
        action="append",
        default=[],
        metavar="BLOB=N,C,H,W",
        help="shape of a blob that the prototxt does not define; may be repeated",
    )
    skip_flag(flags)


@command(
    "summarize",
    "Inspect nets, weights and logs",
    "print a net as a table: shapes, parameters, MACs, memory",
    _flags,
    _EXAMPLES,
)
def summarize(args: argparse.Namespace) -> None:
    """Print a line for each layer, and the totals; of a solver's train net and test nets, one after the other.

    The columns are name, type, multipliers and names of parameters, bottoms, tops (unused ones in bold), main settings
    and shape of the first top; then numbers in parameters, multiply-accumulates (MACs) of a forward pass over the
    batch, bytes of tops and bytes of parameters.

    MACs are products with weights: those of convolutions, InnerProduct, RNN and LSTM.  Biases, elementwise work,
    pooling and the backward pass are not counted.  Memory is that of float32 data: training needs as much again for
    the diffs.  Tops in place count 0, and parameters with a shared name count once in totals.
    """
    shapes = parse_shapes(args.shape)
    texts = [text for section in _sections(args.filename, args.phase) for text in _texts(section, args, shapes)]
    print("\n\n".join(texts))


class _Section(NamedTuple):
    """A net to print.  title: '' for none.  parts: the nets whose totals are printed, by the name of their line."""

    title: str
    net: Any
    parts: dict[str, Any]


def _sections(path: str, phase: str) -> Iterator[_Section]:
    """Yield the net of a file, or the nets of a solver's file, with the layers of a phase or of ALL."""
    try:
        net = read_net(path)
    except PrototxtError:
        if not is_solver(path):
            raise
        yield from _solver_sections(path, phase)
        return
    parts = {name: _of_phase(net, name) for name in ("TRAIN", "TEST") if phase in (name, "ALL")}
    first, *others = parts.values()
    if all(other.layer == first.layer for other in others):
        parts = {"total": first}
    yield _Section("", net if phase == "ALL" else _of_phase(net, phase), parts)


def _of_phase(net, phase: str):
    net.state.phase = caffe_pb2.Phase.Value(phase)
    return filter_net(net)


def _solver_sections(path: str, phase: str) -> Iterator[_Section]:
    nets = SolverNets(load(path))
    titles = ["Train net", *(f"Test net #{i}" for i in range(len(nets.tests)))]
    for title, net in zip(titles, (nets.train, *nets.tests)):
        if phase in ("ALL", caffe_pb2.Phase.Name(net.state.phase)):
            own = filter_net(net)
            yield _Section(f"{title}: {net.name}" if net.name else title, own, {"total": own})


def _texts(section: _Section, args: argparse.Namespace, shapes: dict[str, Shape]) -> Iterator[str]:
    """Yield the title, the tables and the totals of a section."""
    if section.title:
        yield printable_line(section.title)
    costs = {name: net_costs(part, shapes) for name, part in section.parts.items()}
    if args.per_type:
        for name, each in costs.items():
            yield from [name] * (len(costs) > 1) + [type_table(each, args.max_width), total_text(each)]
        return
    costs = _merged(costs)
    yield net_table(section.net, costs, sys.stdout.isatty(), shapes, args.max_width)
    yield "\n".join((f"{name}: " if len(costs) > 1 else "") + total_text(each) for name, each in costs.items())


def _merged(costs: dict[str, NetCosts]) -> dict[str, NetCosts]:
    """The costs of two phases as those of one net, "total", where as text they are the same."""
    return costs if len({total_text(each) for each in costs.values()}) > 1 else {"total": next(iter(costs.values()))}
