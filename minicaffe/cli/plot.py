"""`minicaffe plot`: draw training logs as curves."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Sequence

from minicaffe.cli.command import FlagParser, command, print_line
from minicaffe.cli.shared_flags import need_picture
from minicaffe.errors import DataError
from minicaffe.pictures import plot as plotting
from minicaffe.pictures.parse_log import read_curves

_INTERVAL = 2.0  #: seconds between two readings of the logs
_LONGEST = 20.0  #: seconds that are waited at most
_IDLE = 9.0  #: times the duration of a drawing, that are waited after it: drawing takes about a tenth of a core
_TAIL = 4096  #: bytes at the end of a log, in which its last line is looked for


def _flags(flags: FlagParser) -> None:
    flags.argument("logs", metavar="LOG", nargs="+", help="training logs, of minicaffe or of Caffe")
    flags.flag("output", also=["-o"], metavar="OUT", help="picture to write, .png, .svg or .pdf (default: LOG.png)")
    flags.flag("x", choices=("iterations", "seconds"), default="iterations", help="unit of the x axis")
    flags.flag("smooth", type=int, default=1, metavar="N", help="average training curves over N points (default 1)")
    flags.switch("log", "a logarithmic loss axis")
    flags.switch("watch", "draw again whenever a log has grown, until all trainings are done, or Ctrl-C")


@command(
    "plot",
    "Inspect nets, weights and logs",
    "draw loss, accuracy and rate of training logs",
    _flags,
    "  minicaffe plot train.log\n"
    "  minicaffe plot quick.log full.log --output both.svg --smooth 10\n"
    "  minicaffe plot runs/*/train.log --output runs.png --watch",
)
def plot(args: argparse.Namespace) -> None:
    """Draw several logs in one picture, one colour each; thin lines are training, thick lines with dots are tests.

    With --watch the picture is replaced whenever a log has grown; a log that does not exist yet, or reports nothing
    yet, is left out until it does.
    """
    output = args.output or os.path.splitext(args.logs[0])[0] + ".png"
    need_picture(output)
    if args.watch:
        print_line(f"Drawing {', '.join(args.logs)} to {output}; Ctrl-C stops", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            watch(args.logs, lambda logs: _draw(args, logs, output))
    else:
        _draw(args, args.logs, output)
    print_line(f"Drew {', '.join(args.logs)} to {output}")


def _draw(args: argparse.Namespace, logs: Sequence[str], output: str) -> None:
    plotting.save(plotting.plot_logs(logs, args.x, args.log, args.smooth), output)


def watch(logs: Sequence[str], draw: Callable[[Sequence[str]], None]) -> None:
    """Call `draw` with the logs that report something, whenever one has changed, until each has its last line."""
    drawn: list[tuple[int, float] | None] | None = None
    while True:
        start = time.monotonic()
        done = all(map(_is_done, logs))
        now = [_state(path) for path in logs]
        ready = [path for path in logs if _reports(path)] if now != drawn else []
        if ready:
            draw(ready)
        if done:
            return
        drawn = now
        time.sleep(min(max(_INTERVAL, _IDLE * (time.monotonic() - start)), _LONGEST))


def _state(path: str) -> tuple[int, float] | None:
    """Return the size and the time of the last change of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime


def _reports(path: str) -> bool:
    """Whether a log exists and reports a value of an iteration."""
    try:
        return bool(read_curves(path))
    except DataError:
        return False


def _is_done(path: str) -> bool:
    """Whether a log ends with the line that ends a training: no iteration is logged after it."""
    try:
        with open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
            tail = file.read()
    except OSError:
        return False
    return tail.rfind(b"Optimization Done.") > tail.rfind(b"Iteration ")
