"""The upgrade tools: read a file of an old version or of a fork, and write it in the current format.

tools/upgrade_net_proto_text.py and the two other tools call these functions.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from minicaffe.errors import MinicaffeError
from minicaffe.glog import PrintableFormatter
from minicaffe.proto import caffe_pb2
from minicaffe.proto.reading import read_binary, read_text, write_binary, write_text
from minicaffe.proto.upgrade import needs_net_upgrade, upgrade_net, upgrade_solver
from minicaffe.proto.upgrade_forks import clear_marks

PathLike = str | os.PathLike
log = logging.getLogger("minicaffe")


def upgrade_net_proto_text(source: PathLike, target: PathLike) -> bool:
    """Upgrade a net prototxt into `target`; returns whether it needed an upgrade.

    `target` may be `source`.  PrototxtError when `source` cannot be read or upgraded, DataError when `target` cannot
    be written.
    """
    return _upgrade_net(source, target, read_text, _write_net_text)


def upgrade_net_proto_binary(source: PathLike, target: PathLike) -> bool:
    """Upgrade a binary net (a .caffemodel) into `target`; returns whether it needed an upgrade.

    `target` may be `source`.  Errors as for `upgrade_net_proto_text`.
    """
    return _upgrade_net(source, target, read_binary, write_binary)


def upgrade_solver_proto_text(source: PathLike, target: PathLike) -> bool:
    """Upgrade a solver prototxt into `target`; returns whether it needed an upgrade.

    `target` may be `source`.  Errors as for `upgrade_net_proto_text`.
    """
    solver = read_text(source, caffe_pb2.SolverParameter())
    before = solver.SerializeToString(deterministic=True)
    upgrade_solver(solver)
    for net in (solver.net_param, solver.train_net_param, *solver.test_net_param):
        clear_marks(net)
    write_text(solver, target)
    return before != solver.SerializeToString(deterministic=True)


def _upgrade_net(source: PathLike, target: PathLike, read: Callable, write: Callable) -> bool:
    net = read(source, caffe_pb2.NetParameter())
    old = needs_net_upgrade(net)
    write(upgrade_net(net, source), target)
    return old


def _write_net_text(net: caffe_pb2.NetParameter, target: PathLike) -> None:
    clear_marks(net)
    write_text(net, target)


def run(convert: Callable[[PathLike, PathLike], bool], argv: Sequence[str] | None = None) -> int:
    """Run one of the functions above with the command line `TOOL IN OUT`; return the exit status.

    argv: the words without the program's name; None (default): the process's own.
    """
    description = (convert.__doc__ or "").split(";")[0] + "."
    parser = argparse.ArgumentParser(prog=f"{convert.__name__}.py", description=description)
    parser.add_argument("source", metavar="IN")
    parser.add_argument("target", metavar="OUT")
    arguments = parser.parse_args(argv)
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        old = convert(arguments.source, arguments.target)
    except MinicaffeError as error:
        print(error, file=sys.stderr)
        return 1
    if not old:
        log.info("%s is in the current format already", arguments.source)
    log.info("wrote %s", arguments.target)
    return 0
