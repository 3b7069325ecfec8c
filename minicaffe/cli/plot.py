"""`minicaffe plot`: draw training logs as curves."""

from __future__ import annotations

import argparse
import os

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import need_picture
from minicaffe.pictures import plot as plotting


def _flags(flags: FlagParser) -> None:
    flags.argument("logs", metavar="LOG", nargs="+", help="training logs, of minicaffe or of Caffe")
    flags.flag("output", also=["-o"], metavar="OUT", help="picture to write, .png, .svg or .pdf (default: LOG.png)")
    flags.flag("x", choices=("iterations", "seconds"), default="iterations", help="unit of the x axis")
    flags.flag("smooth", type=int, default=1, metavar="N", help="average training curves over N points (default 1)")
    flags.switch("log", "a logarithmic loss axis")


@command(
    "plot",
    "Inspect nets, weights and logs",
    "draw loss, accuracy and rate of training logs",
    _flags,
    "  minicaffe plot train.log\n  minicaffe plot quick.log full.log --output both.svg --smooth 10",
)
def plot(args: argparse.Namespace) -> None:
    """Draw several logs in one picture, one colour each; thin lines are training, thick lines with dots are tests."""
    output = args.output or os.path.splitext(args.logs[0])[0] + ".png"
    need_picture(output)
    plotting.save(plotting.plot_logs(args.logs, args.x, args.log, args.smooth), output)
    print_line(f"Drew {', '.join(args.logs)} to {output}")
