"""The original's tools for logs: `parse_log`, `extract_seconds`, `plot_training_log`."""

from __future__ import annotations

import argparse
import os

from minicaffe.cli.command import FlagParser, command
from minicaffe.cli.shared_flags import need_picture, need_writable
from minicaffe.errors import DataError, UsageError
from minicaffe.pictures import parse_log as logs
from minicaffe.pictures import plot

_GROUP = "Inspect nets, weights and logs"


def _parse_flags(flags: FlagParser) -> None:
    flags.argument("logfile_path", metavar="LOG", help="training log, of minicaffe or of Caffe")
    flags.argument("output_dir", metavar="OUTPUT_DIR", help="folder for the two tables")
    flags.switch("verbose", "print the names of the files written")
    flags.flag("delimiter", metavar="TEXT", default=",", help="separator of columns (default: ,)")


@command(
    "parse_log",
    _GROUP,
    "write the numbers of a training log as CSV tables",
    _parse_flags,
    "  minicaffe parse_log train.log .",
)
def parse_log(args: argparse.Namespace) -> None:
    """Write OUTPUT_DIR/LOG.train and LOG.test with columns NumIters, Seconds, LearningRate and one per net output."""
    if not os.path.isdir(args.output_dir):
        raise UsageError(f"parse_log: the folder '{args.output_dir}' does not exist")
    train, test = logs.parse_log(args.logfile_path)
    if not train and not test:
        raise DataError(f"log '{args.logfile_path}': no line reports an output of an iteration")
    logs.save_csv_files(args.logfile_path, args.output_dir, train, test, args.delimiter, args.verbose)


def _seconds_flags(flags: FlagParser) -> None:
    flags.argument("input_file", metavar="LOG", help="training log")
    flags.argument("output_file", metavar="OUT", help="file for the seconds, one per line")


@command("extract_seconds", _GROUP, "write the seconds at which a log's iterations were logged", _seconds_flags)
def extract_seconds(args: argparse.Namespace) -> None:
    """Write one line per logged iteration: the seconds since the line with "Solving"."""
    need_writable(args.output_file)
    logs.extract_seconds(args.input_file, args.output_file)


def _chart_flags(flags: FlagParser) -> None:
    types = "; ".join(f"{i}: {name}" for i, name in enumerate(plot.get_supported_chart_types()))
    flags.argument("chart_type", metavar="TYPE", type=int, help=types)
    flags.argument("path_to_png", metavar="OUT", help="picture to write, .png or .svg")
    flags.argument("path_to_logs", metavar="LOG", nargs="+", help="training logs")


@command(
    "plot_training_log",
    _GROUP,
    "draw one of the original's eight chart types of logs",
    _chart_flags,
    "  minicaffe plot_training_log 6 loss.png quick.log full.log",
)
def plot_training_log(args: argparse.Namespace) -> None:
    """Draw one chart type; `minicaffe plot` draws loss, accuracy and rate in one picture."""
    need_picture(args.path_to_png)
    plot.plot_chart(args.chart_type, args.path_to_png, args.path_to_logs)
