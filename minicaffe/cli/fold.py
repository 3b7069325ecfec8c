"""`minicaffe fold`: fold BatchNorm, Scale and Bias into weights."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import TYPE_CHECKING

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import (
    built_net,
    need_writable,
    python_layer_flags,
    python_layers_of,
    state_flags,
)
from minicaffe.core import file_kinds
from minicaffe.errors import UsageError
from minicaffe.proto import TEST

if TYPE_CHECKING:
    from minicaffe.export.fold import Folded

_EXAMPLES = """
  minicaffe fold deploy.prototxt net.caffemodel folded
  minicaffe fold train_val.prototxt net_iter_10000.caffemodel.h5 folded --verbose
""".strip("\n")

_ENDINGS = (".prototxt", ".caffemodel.h5", ".caffemodel")


def _flags(flags: FlagParser) -> None:
    flags.argument("model", metavar="MODEL", help="prototxt of the net")
    flags.argument("weights", metavar="WEIGHTS", help="its .caffemodel or .caffemodel.h5 files, comma-separated")
    flags.argument("out", metavar="OUT", help="the files to write are OUT.prototxt and OUT.caffemodel, or, if WEIGHTS "
                   "is HDF5, OUT.caffemodel.h5")  # fmt: skip
    flags.flag("limit", type=float, metavar="X",
               help="how much an output may differ, relative to its largest value (default 1e-6)")  # fmt: skip
    flags.switch("verbose", "print a line for each layer that was folded")
    state_flags(flags)
    python_layer_flags(flags)


@command("fold", "Take nets elsewhere", "fold BatchNorm, Scale and Bias into weights", _flags, _EXAMPLES)
def fold(args: argparse.Namespace) -> None:
    """Write the TEST net of MODEL with fewer layers and other weights, which computes the same outputs.

    Dropout, Silence and layers of TRAIN are left out. Before anything is written, both nets are run on a random batch
    and compared. A line gives the reason for each layer that stays.
    """
    sources = [path.strip() for path in args.weights.split(",")]
    hdf5 = file_kinds.is_hdf5(sources[-1])
    prototxt, weights = _targets(args.out, hdf5, [args.model, *sources])
    with python_layers_of(args):
        from minicaffe.export.fold import LIMIT
        from minicaffe.export.fold import fold as fold_net

        folded = fold_net(built_net(args, TEST, sources), LIMIT if args.limit is None else args.limit)
    folded.save(prototxt, weights, hdf5)
    _report(folded, args.verbose)
    for path in (prototxt, weights):
        print_line(f"wrote {path}")


def _targets(out: str, hdf5: bool, sources: list[str]) -> tuple[str, str]:
    """Return the paths of the two files to write; UsageError if one is a source, as folding cannot be undone."""
    ending = next((ending for ending in _ENDINGS if out.endswith(ending)), "")
    stem = out[: len(out) - len(ending)]
    if not os.path.basename(stem):
        raise UsageError(f"fold: expected a name for the files to write, got '{out}'")
    targets = (f"{stem}.prototxt", f"{stem}.caffemodel.h5" if hdf5 else f"{stem}.caffemodel")
    for target in targets:
        need_writable(target)
        if any(os.path.exists(each) and os.path.samefile(target, each) for each in sources if os.path.exists(target)):
            raise UsageError(f"fold: it would overwrite '{target}', which it reads: give another OUT")
    return targets


def _report(folded: Folded, verbose: bool) -> None:
    print_line(f"{folded.net.name or 'net'}: {folded.before} layers before, {folded.after} after")
    for (source, target), count in Counter((each.type, each.into_type) for each in folded.folded).items():
        print_line(f"folded: {count} {source} into {target}")
    if verbose:
        for each in folded.folded:
            print_line(f"  {each.type} '{each.name}' into {each.into_type} '{each.into}'")
    for title in folded.dropped:
        print_line(f"dropped: {title}")
    for title, why in folded.kept.items():
        print_line(f"stays: {title}: {why}")
    exact, stored = folded.difference
    print_line(f"largest difference on a random batch: {exact:.1e} of an output's largest value, {stored:.1e} with the "
               "weights in float32")  # fmt: skip
