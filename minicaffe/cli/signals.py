"""Signal handling of a running solver: SIGINT (Ctrl-C) and SIGHUP (the terminal was closed)."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from minicaffe.cli.command import FlagParser
from minicaffe.errors import UsageError

_EFFECTS = ("stop", "snapshot", "none")


def signal_flags(flags: FlagParser) -> None:
    """Add -sigint_effect and -sighup_effect."""
    flags.section("signals")
    flags.flag("sigint_effect", metavar="EFFECT", default="stop",
               help="what Ctrl-C does: stop (after a snapshot; the default), snapshot or none")  # fmt: skip
    flags.flag("sighup_effect", metavar="EFFECT", default="snapshot",
               help="what SIGHUP does: snapshot (the default), stop or none")  # fmt: skip


@contextlib.contextmanager
def requests(sigint_effect: str, sighup_effect: str) -> Iterator[Callable[[], str | None]]:
    """Handle both signals inside the block; yield a function for a solver's `action`.

    sigint_effect, sighup_effect: "stop", "snapshot" or "none"; UsageError for another value.
    The function returns "stop" or "snapshot" once for each signal received, None otherwise.  A second Ctrl-C before
    the solver has reacted to the first raises KeyboardInterrupt.
    """
    effects = {"SIGINT": sigint_effect, "SIGHUP": sighup_effect}
    for name, effect in effects.items():
        if effect not in _EFFECTS:
            raise UsageError(f"-{name.lower()}_effect: expected {', '.join(_EFFECTS)}, got '{effect}'")
    pending: list[str] = []

    def on_signal(number: int, _frame) -> None:
        name = signal.Signals(number).name
        if name == "SIGINT" and effects[name] == "stop" and "stop" in pending:
            raise KeyboardInterrupt
        if effects[name] != "none":
            pending.append(effects[name])

    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        yield lambda: None
        return
    numbers = [getattr(signal, name) for name in effects if hasattr(signal, name)]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield lambda: pending.pop(0) if pending else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
