"""Flags and checks shared by commands: level and stage, weights, the log file, files to read and to write, how
images are stored, and what Python layers may import.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from minicaffe.cli.command import FlagParser
from minicaffe.core import python_layers
from minicaffe.errors import DataError, UsageError
from minicaffe.files import check_writable

if TYPE_CHECKING:
    from minicaffe.core.net import Net
    from minicaffe.data.image_storage import ImageStorage


def state_flags(flags: FlagParser) -> None:
    """Add -level and -stage."""
    flags.section("which layers of the prototxt")
    flags.flag("level", type=int, default=0, metavar="N", help="the net's level, for include and exclude rules (0)")
    flags.flag("stage", default="", metavar="A,B", help="the net's stages, separated by commas without spaces")


def stages(args: argparse.Namespace) -> list[str]:
    """Return the stages of -stage; [""] if it is not given, which the original puts into the nets' states, too."""
    return args.stage.split(",")


def built_net(args: argparse.Namespace, phase: int, files: Sequence[str]) -> Net:
    """Return the net of `args.model` in a phase, at the -level and -stage given, with the weights in files, if any."""
    from minicaffe.core.net import Net

    net = Net(args.model, phase=phase, level=args.level, stages=stages(args))
    if files:
        net.copy_from(*files)
    return net


def log_flag(flags: FlagParser) -> None:
    """Add --log."""
    flags.flag("log", metavar="FILE", help="write the log lines to the end of FILE as well")


def skip_flag(flags: FlagParser) -> None:
    """Add --skip-unknown-fields, which `Command` applies."""
    flags.switch("skip-unknown-fields", "read prototxts without the fields of forks that change no result")


def python_layer_flags(flags: FlagParser) -> None:
    """Add --no-python-layers and --python-layers, and --skip-unknown-fields."""
    flags.flag("no-python-layers", action="store_true",
               help="refuse nets with Python layers, which run the module that the prototxt names")  # fmt: skip
    flags.flag("python-layers", metavar="A,B",
               help="refuse Python layers of other modules than these; a package includes its submodules")  # fmt: skip
    skip_flag(flags)


def python_layers_of(args: argparse.Namespace, level: int = logging.WARNING) -> contextlib.AbstractContextManager:
    """Return the context manager that applies the flags of `python_layer_flags` and restores the rule at its end.

    level: the logging level of the line about a module that is going to be imported.  The default is that of commands
        that run a net which may be another person's; `train` uses logging.INFO.
    UsageError for both flags together.
    """
    if args.no_python_layers and args.python_layers:
        raise UsageError("give --no-python-layers or --python-layers, but not both")
    allowed = python_layers.rule().allowed
    if args.no_python_layers:
        allowed = False
    elif args.python_layers:
        allowed = tuple(name.strip() for name in args.python_layers.split(",") if name.strip())
    return python_layers.following(python_layers.Rule(allowed, level))


def storage_flags(flags: FlagParser) -> None:
    """Add the flags that state how a converter stores images: --gray, --resize_width, --encoded and others."""
    flags.switch("gray", "read the images as grey ones")
    flags.flag("resize_width", type=int, default=0, metavar="N", help="resize the images to this width")
    flags.flag("resize_height", type=int, default=0, metavar="N", help="resize the images to this height")
    flags.switch("check_size", "stop when an image differs in size from the first")
    flags.switch("encoded", "store image files instead of pixels")
    flags.flag("encode_type", default="", metavar="EXT", help="re-encode as png, jpg, ... (implies --encoded)")


def storage_of(args: argparse.Namespace) -> ImageStorage:
    """Return the image storage that the flags of `storage_flags`, and --min_dim and --max_dim, if any, state."""
    from minicaffe.data.image_storage import ImageStorage

    return ImageStorage(
        args.gray, (args.resize_height, args.resize_width), getattr(args, "min_dim", 0), getattr(args, "max_dim", 0),
        args.encoded or bool(args.encode_type), args.encode_type,
    )  # fmt: skip


def need_file(path: str, word: str, what: str) -> str:
    """Return `path`; UsageError if it is empty or the file does not exist.

    word: the flag or the positional argument, as it is written: "--like", "MODEL".  what: the kind of file.
    """
    if not path:
        raise UsageError(f"need {what}: give {word}{' FILE' if word.startswith('-') else ''}")
    if not os.path.exists(path):
        raise UsageError(f"{word}: there is no file '{path}'")
    return path


def need_writable(path: str, flag: str = "", endings: Sequence[str] = ()) -> str:
    """Return `path`, which a command writes at its end; DataError, before it computes anything, if that cannot be.

    endings: those of the formats that `flag` writes; UsageError for another one.  (): any (default).
    """
    if endings and not path.endswith(tuple(endings)):
        *most, last = endings
        expected = f"{', '.join(most)} or {last}" if most else last
        raise UsageError(f"{flag}: expected a {expected} file, got '{path}'")
    try:
        check_writable(path)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}") from None
    return path


def need_picture(path: str) -> str:
    """Return `path`, a picture that a command writes at its end; errors as for `need_writable` and `picture_format`."""
    from minicaffe.pictures.plot import picture_format

    picture_format(path)
    return need_writable(path)


def weight_files(text: str, word: str = "-weights") -> list[str]:
    """Split a comma-separated list of files, without spaces around commas; UsageError if one does not exist.

    word: as for `need_file`.
    """
    return [need_file(path.strip(), word, "weights") for path in text.split(",")]
