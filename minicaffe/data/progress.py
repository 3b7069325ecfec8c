"""Progress of a long job: a bar that is updated in place on a terminal, a line every ten seconds otherwise."""

from __future__ import annotations

import sys
import time

from minicaffe.text import printable_line


class Progress:
    """Progress display, a context manager that prints the last count at its end.

    label: text before the bar.  total: the final count; 0: unknown.  unit: what is counted (default "images").
    stream: a text stream; None (default): standard error.
    """

    def __init__(self, label: str, total: int, unit: str = "images", stream=None) -> None:
        self.label, self.total, self.unit = printable_line(label), total, unit
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = self._drawn = time.monotonic()
        self._count = 0

    def __call__(self, count: int) -> None:
        """Set the count; the display is updated at most every 0.1 s (terminal) or 10 s."""
        self._count = count
        now = time.monotonic()
        if now - self._drawn > (0.1 if self._terminal else 10.0):
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        if not self._terminal:
            of = f" of {self.total}" if self.total else ""
            print(f"{self.label}: {self._count}{of} {self.unit}", file=self._stream, flush=True)
            return
        part = min(self._count / self.total, 1.0) if self.total else 0.0
        bar = ("#" * round(24 * part)).ljust(24, ".")
        rate = self._count / max(time.monotonic() - self._start, 1e-9)
        text = f"{self.label} [{bar}] {part:4.0%} {self._count} {self.unit}, {rate:,.0f}/s"
        print(f"\r{text:<78.78}", end="", file=self._stream, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self._draw()
        if self._terminal:
            print(file=self._stream, flush=True)
