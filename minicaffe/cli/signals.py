"""Signals of a running solver: SIGINT (Ctrl-C), SIGTERM (batch systems, containers), SIGHUP (a closed terminal)."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from minicaffe.cli.command import FlagParser
from minicaffe.errors import UsageError

#: effect of each signal; SIGBREAK, Ctrl-Break on Windows, has that of SIGINT
DEFAULTS = {"sigint": "stop", "sigterm": "stop", "sighup": "snapshot"}
_SAME_AS = {"sigbreak": "sigint"}
_EFFECTS = ("stop", "snapshot", "none")


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
        flags.flag(f"{name}_effect", metavar="EFFECT", default=DEFAULTS[name],
                   help=f"what {what} does: {DEFAULTS[name]} {note}, {' or '.join(others)}")  # fmt: skip


def effects_of(args: argparse.Namespace) -> dict[str, str]:
    """Return the effect of each signal, from the flags; UsageError for an unknown effect."""
    effects = {name: getattr(args, f"{name}_effect") for name in DEFAULTS}
    for name, effect in effects.items():
        if effect not in _EFFECTS:
            raise UsageError(f"-{name}_effect: expected {', '.join(_EFFECTS)}, got '{effect}'")
    return effects


@contextlib.contextmanager
def requests(effects: Mapping[str, str] = DEFAULTS) -> Iterator[Callable[[], str | None]]:
    """Handle the signals inside the block; yield a function for a solver's `action`.

    effects: "stop", "snapshot" or "none" for "sigint", "sigterm" and "sighup".
    The function returns "stop" or "snapshot" once for each signal received, None otherwise.  Each signal to stop after
    the first raises `Interrupted`, whatever the solver does at that moment; where Python discards exceptions, as in a
    callback of a weak reference, the function raises it when it is called next.  Signals that the system does not have
    are skipped.
    """
    pending: list[str] = []
    stopping, interrupted = False, 0

    def on_signal(number: int, _frame: object) -> None:
        nonlocal stopping, interrupted
        effect = by_number[number]
        if effect == "stop" and stopping:
            interrupted = number
            raise Interrupted(number)
        stopping |= effect == "stop"
        if effect != "none":
            pending.append(effect)

    def action() -> str | None:
        if interrupted:
            raise Interrupted(interrupted)
        return pending.pop(0) if pending else None

    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        yield lambda: None
        return
    named = {**effects, **{name: effects[like] for name, like in _SAME_AS.items()}}
    by_number: dict[int, str] = {}
    for name, effect in named.items():
        if hasattr(signal, name.upper()):
            by_number[getattr(signal, name.upper())] = effect
    before = {number: signal.signal(number, on_signal) for number in by_number}
    try:
        with _not_reporting_lost_ones():
            yield action
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
