"""What a prototxt has that is unknown here: all of it, where reading the file stops at the first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from minicaffe.checks.finding import Finding
from minicaffe.core.passes import filter_net, insert_splits
from minicaffe.core.registry import unknown_type
from minicaffe.errors import MinicaffeError, PrototxtError
from minicaffe.glog import muted
from minicaffe.proto import caffe_pb2, parse_text, read_net, upgrade_net
from minicaffe.proto.kinds import kind_of
from minicaffe.proto.reading import text_of
from minicaffe.proto.skipping import skips_hints
from minicaffe.proto.unknown import Fault, faults_of, without
from minicaffe.solvers import nets


def unreadable(what: Any) -> list[Finding]:
    """Return what cannot be read in a prototxt of a net or a solver, and in the nets that the solver names.

    what: the path of the prototxt, or a `nets.Source` or SolverParameter; [] for anything else.
    If there is anything, what can be read is searched for unknown layer types, too.  [] for a file that can be read, or
    of which nothing can be read.
    """
    found: list[Finding] = []
    message, folder = what.param if isinstance(what, nets.Source) else what, ""
    if isinstance(what, (str, os.PathLike)):
        path = os.fspath(what)
        (message, found), folder = _read(path), os.path.dirname(path)
    if isinstance(message, caffe_pb2.SolverParameter):
        for net in filter(None, dict.fromkeys((message.net, message.train_net, *message.test_net))):
            there = nets.beside(net, folder)
            found += [] if nets.is_solver(there) else unreadable(there)
    elif found and message is not None:
        found += unknown_types([layer for layer in message.layer if layer.type])  # "": it is among what was found
    return found


def _read(path: str) -> tuple[Any, list[Finding]]:
    """Return the message of what can be read of a file, None for nothing, and the findings about the rest."""
    try:
        text = text_of(path)
    except PrototxtError:
        return None, []
    message = caffe_pb2.SolverParameter() if kind_of(text) == "solver" else caffe_pb2.NetParameter()
    faults = faults_of(text, message)
    found = [_fault(path, fault) for fault in faults if not (fault.hint and skips_hints())]
    try:
        parse_text(without(text, faults), message, path)
        return (upgrade_net(message, path) if isinstance(message, caffe_pb2.NetParameter) else message), found
    except PrototxtError as error:
        return None, [*found, Finding("error", "prototxt-invalid", path, str(error))] if found else []


def _fault(path: str, fault: Fault) -> Finding:
    tail = "; it changes no result: --skip-unknown-fields reads on without it" if fault.hint else ""
    return Finding("error", "prototxt-invalid", f"{path}:{fault.line}:{fault.column}", fault.sentence + tail)


def unknown_types(layers: Sequence[Any]) -> list[Finding]:
    """Return a finding for each layer of an unknown type.  layers: LayerParameters."""
    named = ((layer.name, unknown_type(layer.type)) for layer in layers)
    return [Finding("error", "net-invalid", f"layer '{name}'", sentence) for name, sentence in named if sentence]


def check_net(path: str, level: int = 0, stages: Sequence[str] = ()) -> list[Finding]:
    """Return what is wrong with the prototxt of a net, in TRAIN and in TEST, as far as it is known without a solver.

    That is what cannot be read, layers of unknown types, and bottoms that no layer makes.  A phase in which the net has
    no data is left out.
    level, stages: those of the net's state.
    """
    with muted():
        return unreadable(path) or list(_wrong_in_phases(path, level, stages))


def _wrong_in_phases(path: str, level: int, stages: Sequence[str]) -> Iterator[Finding]:
    try:
        net = read_net(path)
    except PrototxtError as error:
        yield Finding("error", "prototxt-invalid", path, str(error))
        return
    net.state.level = level
    net.state.stage.extend(stages)
    yield from unknown_types(net.layer)
    try:
        phases = _phases(net)
    except MinicaffeError as error:
        yield Finding("error", "net-invalid", path, str(error))
        return
    for phase in phases:
        net.state.phase = phase
        try:
            insert_splits(filter_net(net), net)
        except MinicaffeError as error:
            yield Finding("error", "net-invalid", f"{path} in {caffe_pb2.Phase.Name(phase)}", str(error))


def _phases(net: Any) -> Sequence[int]:
    """Return the phases in which the net has a layer without bottoms, as data layers are; both if neither has one.

    A prototxt for training alone, as those of detection nets, has its data layer in TRAIN only.
    Raises NetError for a layer with include and exclude.
    """
    phases, found = (caffe_pb2.TRAIN, caffe_pb2.TEST), []
    for phase in phases:
        net.state.phase = phase
        if not all(layer.bottom for layer in filter_net(net).layer):
            found.append(phase)
    return found or phases
