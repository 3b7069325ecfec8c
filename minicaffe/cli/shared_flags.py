"""Flags and checks shared by commands: level and stage, weights, the log file, files to read and to write."""

from __future__ import annotations

import argparse
import os

from minicaffe.cli.command import FlagParser
from minicaffe.errors import DataError, UsageError
from minicaffe.files import check_writable


def state_flags(flags: FlagParser) -> None:
    """Add -level and -stage."""
    flags.section("which layers of the prototxt")
    flags.flag("level", type=int, default=0, metavar="N", help="the net's level, for include and exclude rules (0)")
    flags.flag("stage", default="", metavar="A,B", help="the net's stages, separated by commas")


def stages(args: argparse.Namespace) -> list[str]:
    """Return the stages of -stage; [""] if it is not given, which the original puts into the nets' states, too."""
    return args.stage.split(",")


def log_flag(flags: FlagParser) -> None:
    """Add --log."""
    flags.flag("log", metavar="FILE", help="write the log lines to the end of FILE as well")


def need_file(path: str, flag: str, what: str) -> str:
    """Return `path`; UsageError if it is empty or the file does not exist.

    flag, what: the flag and the kind of file, for the message.
    """
    if not path:
        raise UsageError(f"need {what}: give -{flag} FILE")
    if not os.path.exists(path):
        raise UsageError(f"-{flag}: there is no file '{path}'")
    return path


def need_writable(path: str) -> str:
    """Return `path`, which a command writes at its end; DataError, before it computes anything, if that cannot be."""
    try:
        check_writable(path)
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise DataError(f"cannot write '{path}': {getattr(error, 'strerror', None) or error}") from None
    return path


def weight_files(text: str) -> list[str]:
    """Split a comma-separated list of files, without spaces around commas; UsageError if one does not exist."""
    return [need_file(path.strip(), "weights", "weights") for path in text.split(",")]
