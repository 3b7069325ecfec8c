"""`minicaffe check`: what is wrong with a solver and its nets, before training."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from minicaffe.checks.finding import LEVELS, STAGES, Finding, grouped
from minicaffe.checks.running import check
from minicaffe.checks.unknown import check_net
from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.devices import computing_on, device_flags
from minicaffe.cli.settings import apply, seed_flag, set_flag, settings_of
from minicaffe.cli.shared_flags import (
    need_file,
    python_layer_flags,
    python_layers_of,
    stages,
    state_flags,
    weight_files,
)
from minicaffe.errors import MinicaffeError, UsageError, listed
from minicaffe.text import printable_line

_COLOURS = {"error": 31, "warning": 33, "info": 36}  #: ANSI colours of the levels

_PLACE_IN_FILE = re.compile(r":\d+:\d+$")

_EXAMPLES = """
  minicaffe check --solver my_net/solver.prototxt
  minicaffe check --solver finetune/solver.prototxt --weights pretrained.caffemodel --deploy deploy.prototxt
  minicaffe check --solver solver.prototxt --stages static --json
  minicaffe check downloaded/deploy.prototxt
""".strip("\n")


def _flags(flags: FlagParser) -> None:
    flags.section("what to check")
    flags.argument("prototxt", metavar="PROTOTXT", nargs="?", default="", help="a solver's, as with --solver, or a "
                   "net's, of which all that is unknown is listed, and bottoms that no layer makes")  # fmt: skip
    flags.flag("solver", metavar="FILE", default="", help="the solver's prototxt")
    flags.flag("weights", metavar="FILES", default="", help="the .caffemodel files to start from (comma-separated)")
    flags.flag(
        "snapshot",
        metavar="FILE",
        default="",
        help="the .solverstate or .solverstate.h5 from which training is resumed; not with --weights",
    )
    flags.flag("deploy", metavar="FILE", default="", help="compare the train net with this deploy prototxt")
    set_flag(flags)
    seed_flag(flags, "that of the solver")
    flags.flag("stages", metavar="A,B", default=",".join(STAGES), values=STAGES,
               help="static: prototxts and weights; data: the data sets; batch: the nets are built and run on one "
                    "batch (default: all)")  # fmt: skip
    state_flags(flags)
    python_layer_flags(flags)
    device_flags(flags)
    flags.section("what to print")
    flags.switch("json", "print a list of {level, code, where, text} and nothing else")


@command("check", "Train and measure", "find what is wrong with a net, a solver and its data", _flags, _EXAMPLES)
def check_solver(args: argparse.Namespace) -> int:
    """Print what is wrong: errors, which make training fail or useless, warnings, and facts.

    Of the prototxt of a net alone, all that is unknown is listed: fields, values and layer types, with the forks that
    have them.

    Nothing is trained and nothing is written.  It computes on the CPU, unless -gpu is given.  The exit status is 1 if
    there is an error, 0 otherwise.  docs/check.md has a paragraph for each code.
    """
    from minicaffe.solvers import nets

    if args.prototxt:
        if args.solver:
            raise UsageError("give a prototxt or -solver, but not both")
        args.solver = need_file(args.prototxt, "PROTOTXT", "a prototxt to check")
        if not nets.is_solver(args.solver):
            return _print(check_net(args.solver, args.level, stages(args)), args.json)
    need_file(args.solver, "-solver", "a solver definition to check")
    weights = weight_files(args.weights) if args.weights else []
    if args.snapshot and args.weights:
        raise UsageError("give -snapshot to check a resumed training or -weights to check a fine-tuning, but not both")
    snapshot = need_file(args.snapshot, "-snapshot", "a solver state") if args.snapshot else ""
    deploy = need_file(args.deploy, "-deploy", "a deploy net") if args.deploy else None
    wanted: Any = [stage.strip() for stage in args.stages.split(",")]
    solver: Any = args.solver
    settings_of(args)
    try:
        solver = nets.load(args.solver)
    except MinicaffeError:
        pass  # the check reports it
    else:
        apply(solver, args)
        solver.param.train_state.level = args.level
        solver.param.train_state.stage.extend(stages(args))
    with python_layers_of(args), computing_on(args):
        findings = check(solver, weights, deploy, wanted, snapshot)
    return _print(findings, args.json)


def _print(findings: Sequence[Finding], json_list: bool) -> int:
    """Print findings, and return the exit status: 1 if one is an error, else 0."""
    if json_list:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        _print_text(findings, colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    return int(any(finding.level == "error" for finding in findings))


def _shortened(places: Sequence[str]) -> list[str]:
    """Return places without the file's name where it is that of the place before: net.prototxt:3:5, 7:5."""
    files = ["", *(_PLACE_IN_FILE.sub("", place) for place in places)]
    same = [bool(file) and file != place and file == before for place, before, file in zip(places, files, files[1:])]
    return [place[len(file) + 1 :] if is_same else place for place, file, is_same in zip(places, files[1:], same)]


def _print_text(findings: Sequence[Finding], colours: bool) -> None:
    """Print each sentence once, with its places, and a line of counts."""
    width = max(min(shutil.get_terminal_size().columns, 100), 40)
    for finding, places in grouped(findings):
        level = f"\033[{_COLOURS[finding.level]}m{finding.level}\033[0m" if colours else finding.level
        print(level, printable_line(f"{finding.code}: {listed(_shortened(places))}"))
        print_line(textwrap.fill(finding.text, width, initial_indent="    ", subsequent_indent="    "))
    counts = Counter(finding.level for finding in findings)
    words = [f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in LEVELS if counts[level]]
    print(f"{', '.join(words)}; docs/check.md has a paragraph for each code" if words else "nothing was found")
