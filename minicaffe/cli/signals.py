"""Signals of a running solver: SIGINT (Ctrl-C), SIGTERM (batch systems, containers), SIGHUP (a closed terminal)."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from minicaffe.cli.command import FlagParser
from minicaffe.errors import UsageError

#: effect of each signal; SIGBREAK, Ctrl-Break on Windows, has that of SIGINT
DEFAULTS = {"sigint": "stop", "sigterm": "stop", "sighup": "snapshot"}
_SAME_AS = {"sigbreak": "sigint"}
_EFFECTS = ("stop", "snapshot", "none")
GRACE = 0.5  #: seconds in which further signals to stop count as the first: `timeout` and batch systems send two


class Interrupted(KeyboardInterrupt):
    """Raised by a second signal to stop; `number`: that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def signal_flags(flags: FlagParser) -> None:
    """Add -sigint_effect, -sigterm_effect and -sighup_effect."""
    flags.section("signals")
    for name, what in (("sigint", "Ctrl-C"), ("sigterm", "SIGTERM"), ("sighup", "SIGHUP")):
        others = [effect for effect in _EFFECTS if effect != DEFAULTS[name]]
        note = "(after a snapshot; the default)" if DEFAULTS[name] == "stop" else "(the default)"
        flags.flag(f"{name}_effect", metavar="EFFECT", default=DEFAULTS[name], values=_EFFECTS,
                   help=f"what {what} does: {DEFAULTS[name]} {note}, {' or '.join(others)}")  # fmt: skip


def effects_of(args: argparse.Namespace) -> dict[str, str]:
    """Return the effect of each signal, from the flags; UsageError for an unknown effect."""
    effects = {name: getattr(args, f"{name}_effect") for name in DEFAULTS}
    for name, effect in effects.items():
        if effect not in _EFFECTS:
            raise UsageError(f"-{name}_effect: expected {', '.join(_EFFECTS)}, got '{effect}'")
    return effects


class Received:
    """The signals received so far; a call returns the oldest effect, see `requests`.  An observer of a solver, too.

    effects: "stop", "snapshot" or "none" for each signal's number.  forward: called with each number first.
    """

    def __init__(self, effects: Mapping[int, str], forward: Callable[[int], None]) -> None:
        self._effects, self._forward = effects, forward
        self._pending: list[str] = []
        self._stopping: float | None = None  # when the first signal to stop came
        self._interrupted = 0  # the number of a later one

    def handle(self, number: int, _frame: object) -> None:
        """Keep the effect of a signal; raise `Interrupted` for one that stops at once."""
        self._forward(number)
        effect, now = self._effects[number], time.monotonic()
        if effect != "stop" or self._stopping is None:
            self._pending += [effect] if effect != "none" else []
            self._stopping = now if effect == "stop" else self._stopping
        elif now >= self._stopping + GRACE:
            self._interrupted = number
            raise Interrupted(number)

    def __call__(self) -> str | None:
        """Return the oldest effect that has not been returned; raise `Interrupted` if a signal stops at once."""
        if self._interrupted:
            raise Interrupted(self._interrupted)
        return self._pending.pop(0) if self._pending else None

    def on_snapshot(self, solver: Any, path: str) -> None:
        """Called after a snapshot: drop requests for one, which came before.

        The signals of several ranks, which are sent together, have one effect then, although ranks receive them before
        and after the exchange of an iteration.
        """
        while "snapshot" in self._pending:
            self._pending.remove("snapshot")


@contextlib.contextmanager
def requests(
    effects: Mapping[str, str] = DEFAULTS, forward: Callable[[int], None] = lambda number: None
) -> Iterator[Received]:
    """Handle the signals inside the block; yield the `Received`, for a solver's `action`.

    effects: "stop", "snapshot" or "none" for "sigint", "sigterm" and "sighup".
    forward: called with the number of each signal when it comes (default: does nothing).
    A call of it returns "stop" or "snapshot" once for each signal received, None otherwise.  A signal to stop that
    comes `GRACE` seconds after the first raises `Interrupted`, whatever the solver does at that moment; where Python
    discards exceptions, as in a callback of a weak reference, the next call raises it.  Signals that the system does
    not have are skipped.
    """
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        yield Received({}, forward)
        return
    named = {**effects, **{name: effects[like] for name, like in _SAME_AS.items()}}
    numbers = {getattr(signal, name.upper()): effect for name, effect in named.items() if hasattr(signal, name.upper())}
    received = Received(numbers, forward)
    before = {number: signal.signal(number, received.handle) for number in numbers}
    try:
        with _not_reporting_lost_ones():
            yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _not_reporting_lost_ones() -> Iterator[None]:
    """Let Python print no `Interrupted` that it discards."""
    report = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if isinstance(lost.exc_value, Interrupted) else report(lost)
    try:
        yield
    finally:
        sys.unraisablehook = report
