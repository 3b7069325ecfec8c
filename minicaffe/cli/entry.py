"""Entry point of the command line: find the action, run it, and report an error in one sentence."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator, Sequence

from minicaffe import __version__
from minicaffe.cli import outputs
from minicaffe.cli.command import Command, find
from minicaffe.errors import MinicaffeError, UsageError
from minicaffe.glog import PrintableFormatter, write_once
from minicaffe.text import printable, printable_line

#: Maps each action to the module that registers it, which is imported lazily.
MODULES = {
    name: f"minicaffe.cli.{module}"
    for module, names in {
        "quickstart": ("quickstart",),
        "models": ("models",),
        "check": ("check",),
        "train": ("train",),
        "test": ("test",),
        "calibrate": ("calibrate",),
        "time": ("time",),
        "device_query": ("device_query",),
        "data": ("data", "convert_cifar_data", "convert_mnist_data", "convert_mnist_siamese_data"),
        "databases": ("convert_imageset", "compute_image_mean", "extract_features"),
        "convert_annoset": ("convert_annoset", "create_annoset"),
        "annotation_lists": ("get_image_size", "create_label_map"),
        "whiten": ("whiten",),
        "infer": ("infer",),
        "classify": ("classify", "detect"),
        "cpp_classification": ("cpp_classification",),
        "export": ("export",),
        "draw": ("draw",),
        "plot": ("plot",),
        "show": ("show",),
        "summarize": ("summarize",),
        "logs": ("parse_log", "extract_seconds", "plot_training_log"),
        "images": ("resize_and_crop_images",),
        "fold": ("fold",),
        "upgrade": ("upgrade_net_proto_text", "upgrade_net_proto_binary", "upgrade_solver_proto_text"),
        "shims": ("install-shims",),
        "completion": ("completion",),
    }.items()
    for name in names
}

_HEAD = """minicaffe: Caffe's nets, trained and run from their prototxts.

usage: minicaffe <action> <flags>        minicaffe <action> --help lists an action's flags
"""

_TAIL = """
Flags take one dash or two, and their values after a space or `=`.  --version prints the version.

begin with:
  minicaffe quickstart
  minicaffe models cifar10_quick my_net
  minicaffe train --solver my_net/solver.prototxt
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    argv: the words without the program's name; None (default): the process's own.
    An error caused by the user's input is printed to standard error in one sentence, with status 1, and so is output
    that cannot be written; only for a reader that has closed the pipe, as in `minicaffe ... | head`, none is printed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run_and_flush(words)
    except KeyboardInterrupt as error:
        with contextlib.suppress(KeyboardInterrupt):  # of a second Ctrl-C
            _print_error("interrupted")
            outputs.flush(sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)


def _run_and_flush(words: list[str]) -> int:
    """Run one command line, write what standard output holds back, and return the exit status."""
    outputs.open_standard_streams()
    status = _status_of(words)
    error = outputs.flush(sys.stdout)
    if error is not None and not status:
        status = _print_output_error(error)
    outputs.flush(sys.stderr)
    return status


def _status_of(words: list[str]) -> int:
    """Run one command line; print its error, if any, and return the exit status."""
    try:
        with _essential_log():
            return _run(words)
    except MinicaffeError as error:
        return _print_error(str(error))
    except OSError as error:
        if error.filename is None and error.errno in outputs.WRITE_ERRORS:
            return _print_output_error(error)
        where = f" '{error.filename}'" if error.filename else ""
        return _print_error(printable_line(f"{error.strerror or error}{where}"))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "minicaffe"):
            raise
        package = {"PIL": "pillow"}.get(package, package)
        return _print_error(f"this needs the package {package}, which is not installed: pip install {package}")
    except MemoryError as error:
        return _print_error(f"there is not enough memory ({error})")
    except SystemExit as stop:  # argparse, after --help
        return int(stop.code or 0)


def _print_error(sentence: str) -> int:
    """Print an error to standard error, if that is possible, control characters escaped; return the exit status, 1."""
    with contextlib.suppress(OSError, ValueError):
        print(f"minicaffe: {printable(sentence)}", file=sys.stderr)
    return 1


def _print_output_error(error: OSError) -> int:
    """Print that standard output cannot be written, unless its reader has closed the pipe; return the exit status."""
    if not isinstance(error, BrokenPipeError):
        _print_error(f"cannot write to standard output: {error.strerror or error}")
    return 1


@contextlib.contextmanager
def _essential_log() -> Iterator[None]:
    """Print what commands that set up no log have to report: warnings, and once each what is logged once for a run.

    The latter are engines that compute in place of others.  `logging.lastResort` prints them, without control
    characters, where the logger has no handler.
    """
    log = logging.getLogger("minicaffe")
    was = logging.lastResort, log.level
    handler = logging.StreamHandler()
    handler.setLevel(logging.INFO)
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or hasattr(record, "once"))
    handler.setFormatter(PrintableFormatter())
    write_once(handler)
    logging.lastResort = handler
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.lastResort = was[0]
        log.setLevel(was[1])


def _run(words: list[str]) -> int:
    if not words or words[0].lstrip("-") in ("help", "h", "helpfull"):
        if len(words) > 1 and words[1] in MODULES:
            return find(words[1], MODULES)(["--help"])
        print(overview())
        return 0
    if "version" in (words[0], *(word.lstrip("-") for word in words if word.startswith("-"))):
        print(f"minicaffe version {__version__}")
        return 0
    at = _index_of_action(words)
    return find(words[at], MODULES)(words[:at] + words[at + 1 :])


def _index_of_action(words: list[str]) -> int:
    """Return the index of the action: 0, or, as in the original, a position among the flags."""
    if not words[0].startswith("-"):
        return 0
    for i, word in enumerate(words):
        if word in MODULES:
            return i
    raise UsageError(f"expected an action before the flag '{words[0]}'; `minicaffe --help` lists all actions")


def overview() -> str:
    """Return the text of `minicaffe --help`: all actions by group, one line each."""
    groups: dict[str, list[Command]] = {}
    for name in MODULES:
        action = find(name, MODULES)
        groups.setdefault(action.group, []).append(action)
    lines = [_HEAD]
    for title, actions in groups.items():
        lines.append(f"{title}:")
        lines += [f"  {action.name:<28}{action.summary}" for action in actions]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n" + _TAIL.rstrip()
