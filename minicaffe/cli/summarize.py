"""`minicaffe summarize`: print a net as a table."""

from __future__ import annotations

import argparse
import sys

from minicaffe.cli.command import FlagParser, command
from minicaffe.core.passes import filter_net
from minicaffe.pictures.shapes import parse_shapes
from minicaffe.pictures.summary import format_table, summarize_net
from minicaffe.proto import caffe_pb2, read_net


def _flags(flags: FlagParser) -> None:
    flags.argument("filename", metavar="NET", help="prototxt of the net")
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


@command(
    "summarize",
    "Inspect nets, weights and logs",
    "print a net as a table, a line for each layer",
    _flags,
    "  minicaffe summarize train_val.prototxt --shape data=256,3,227,227",
)
def summarize(args: argparse.Namespace) -> None:
    """Print the columns name, type, learning rates, bottoms, tops (unused ones in bold), main parameters, shape."""
    net = read_net(args.filename)
    if args.phase != "ALL":
        net.state.phase = caffe_pb2.Phase.Value(args.phase)
        net = filter_net(net)
    print(format_table(summarize_net(net, sys.stdout.isatty(), parse_shapes(args.shape)), args.max_width))
