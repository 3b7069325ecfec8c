"""The original's upgrade tools: convert files in old formats to the current one."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.progress import StatusLine, logging_to
from minicaffe.cli.shared_flags import need_writable, skip_flag

_GROUP = "Upgrade old files"


def _flags(flags: FlagParser) -> None:
    flags.argument("source", metavar="IN", help="the old file")
    flags.argument("target", metavar="OUT", help="the file to write; may be IN")


def _text_flags(flags: FlagParser) -> None:
    _flags(flags)
    skip_flag(flags)


@command("upgrade_net_proto_text", _GROUP, "upgrade a net's prototxt from any old format", _text_flags,
         "  minicaffe upgrade_net_proto_text old.prototxt new.prototxt")  # fmt: skip
def upgrade_net_proto_text(args: argparse.Namespace) -> None:
    """Convert V0 and V1 layers, input fields and fields of forks to current layers."""
    from minicaffe.proto.convert import upgrade_net_proto_text as convert

    _upgrade(convert, args)


@command("upgrade_net_proto_binary", _GROUP, "upgrade a .caffemodel from any old format", _flags,
         "  minicaffe upgrade_net_proto_binary old.caffemodel new.caffemodel")  # fmt: skip
def upgrade_net_proto_binary(args: argparse.Namespace) -> None:
    """Equivalent to upgrade_net_proto_text, for nets with their weights."""
    from minicaffe.proto.convert import upgrade_net_proto_binary as convert

    _upgrade(convert, args)


@command("upgrade_solver_proto_text", _GROUP, "upgrade a solver's prototxt from any old format", _text_flags,
         "  minicaffe upgrade_solver_proto_text old_solver.prototxt solver.prototxt")  # fmt: skip
def upgrade_solver_proto_text(args: argparse.Namespace) -> None:
    """Convert `solver_type` to `type`; nets inside the solver are upgraded, too."""
    from minicaffe.proto.convert import upgrade_solver_proto_text as convert

    _upgrade(convert, args)


def _upgrade(convert: Callable[[str, str], bool], args: argparse.Namespace) -> None:
    need_writable(args.target)
    with logging_to(StatusLine()):
        old = convert(args.source, args.target)
    if not old:
        print_line(f"{args.source} is in the current format already")
    print_line(f"wrote {args.target}")
