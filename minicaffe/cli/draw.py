"""`minicaffe draw`: draw the graph of a net."""

from __future__ import annotations

import argparse
import os

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import need_writable, skip_flag
from minicaffe.draw import RANKDIRS, draw_net_to_file
from minicaffe.pictures.shapes import parse_shapes
from minicaffe.proto import caffe_pb2, read_net


def _flags(flags: FlagParser) -> None:
    flags.argument("net", metavar="NET", help="prototxt of the net")
    flags.argument("output", metavar="OUT", nargs="?", help="picture to write, .svg, .png or .pdf (default: NET.svg)")
    flags.flag(
        "rankdir",
        choices=RANKDIRS,
        default="TB",
        help="direction of the data flow: TB down (default), BT up, LR right, RL left",
    )
    flags.flag(
        "phase",
        choices=("TRAIN", "TEST", "ALL"),
        default="TRAIN",
        help="draw the net of this phase (default TRAIN), or ALL layers",
    )
    flags.flag(
        "shape",
        action="append",
        default=[],
        metavar="BLOB=N,C,H,W",
        help="shape of a blob that the prototxt does not define, such as a top of a Data layer; may be repeated",
    )
    flags.switch("display_lrm", "write the learning-rate multipliers into the layers")
    skip_flag(flags)


@command(
    "draw",
    "Inspect nets, weights and logs",
    "draw a net as SVG or PNG, with its shapes",
    _flags,
    "  minicaffe draw my_net/deploy.prototxt\n"
    "  minicaffe draw train_val.prototxt net.png --phase TEST --shape data=50,3,227,227",
)
def draw(args: argparse.Namespace) -> None:
    """Draw each layer as a box, which also contains the layers that work in place on its top."""
    phase = None if args.phase == "ALL" else caffe_pb2.Phase.Value(args.phase)
    output = args.output or os.path.splitext(args.net)[0] + ".svg"
    need_writable(output)
    draw_net_to_file(read_net(args.net), output, args.rankdir, phase, args.display_lrm, parse_shapes(args.shape))
    print_line(f"Drew {args.net} to {output}")
