"""Progress of a job that counts images, batches or bytes."""

from __future__ import annotations

import time

from minicaffe.progress.choice import suitable
from minicaffe.progress.display import Display
from minicaffe.progress.parts import Bar, Part, Parts, duration, megabytes, speed

_SECONDS = 0.05  #: between two lines that are made; displays draw still less often

# Ranks: what is left out first where the line is too long.
_LABEL, _BAR, _SPEED, _COUNT, _LEFT, _PERCENT = range(6)


class Progress:
    """The line of a job: label, bar, percentage, count, speed and remaining time; a context manager.

    label: text before the bar.  total: the final count; 0: unknown.  unit: what is counted (default "images").
    display: where to show it, removed at the end; None (default): a display that suits standard error, whose last line
        stays at the end.
    """

    def __init__(self, label: str, total: int, unit: str = "images", display: Display | None = None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self._display, self._stays = (suitable(), True) if display is None else (display, False)
        self._began = time.monotonic()
        self._made = 0.0
        self._first = self._count = 0

    def start(self, count: int) -> None:
        """Begin at a count: what is there already does not count for the speed."""
        self._first = self._count = count

    def __call__(self, count: int, total: int | None = None) -> None:
        """Set the count, and the final count if `total` is given."""
        self._count, self.total = count, self.total if total is None else total
        now = time.monotonic()
        if now - self._made >= _SECONDS:
            self._made = now
            self._display.set(self._parts())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        if self._stays:
            self._display.set(self._parts())
            self._display.keep()
        else:
            self._display.clear()

    def _parts(self) -> Parts:
        rate = (self._count - self._first) / max(time.monotonic() - self._began, 1e-9)
        parts: list[Part | Bar] = [Part(self.label, _LABEL)]
        if self.total:
            fraction = min(self._count / self.total, 1.0)
            parts += [Bar(fraction, _BAR), Part(f"{fraction:4.0%}", _PERCENT)]
        parts.append(Part(self._counted(), _COUNT))
        if rate > 0:
            parts.append(Part(speed(rate, self.unit), _SPEED))
            if self._count < self.total:
                parts.append(Part(f"{duration((self.total - self._count) / rate)} left", _LEFT))
        return parts

    def _counted(self) -> str:
        if self.unit == "bytes":
            return f"{megabytes(self._count)}{f'/{megabytes(self.total)}' if self.total else ''} MB"
        return f"{self._count}/{self.total}" if self.total else f"{self._count} {self.unit}"
