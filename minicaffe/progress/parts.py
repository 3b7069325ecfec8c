"""A line made of parts, fitted to any width: the bar shrinks first, then whole parts are left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from minicaffe.errors import printable_line

WIDEST, NARROWEST = 20, 5  #: cells of a bar
_GAP = 2  #: columns between parts


@dataclass(frozen=True)
class Part:
    """A text that is shown whole or not at all.

    rank: where the line is too long, parts are left out in the order of their ranks, from the lowest on.
    """

    text: str
    rank: int

    @property
    def shown(self) -> str:
        """The text in one line, control characters escaped."""
        return printable_line(self.text)


@dataclass(frozen=True)
class Bar:
    """A bar that is filled to a fraction (0 to 1), 5 to 20 cells wide; rank: as of a `Part`."""

    fraction: float
    rank: int


Parts = Sequence[Part | Bar]


def fitted(parts: Parts, width: int, fancy: bool = True) -> str:
    """Return a line of at most `width` columns: the parts that fit, separated by two blanks.

    The bar shrinks to 5 cells first; then parts are left out, those of the lowest rank first.  A wider line never shows
    fewer parts.
    fancy: whether the bar is made of block characters (default) or of ASCII characters.
    """
    kept = list(parts)
    while kept and _narrowest(kept, fancy) > width:
        kept.remove(min(kept, key=lambda part: part.rank))
    cells = min(NARROWEST + width - _narrowest(kept, fancy), WIDEST)
    return (" " * _GAP).join(bar(part.fraction, cells, fancy) if isinstance(part, Bar) else part.shown for part in kept)


def _narrowest(parts: Parts, fancy: bool) -> int:
    """The columns that the parts need at least."""
    bar_columns = NARROWEST if fancy else NARROWEST + 2
    widths = [bar_columns if isinstance(part, Bar) else columns(part.shown) for part in parts]
    return sum(widths) + _GAP * (len(widths) - 1)


def columns(text: str) -> int:
    """Return the columns that a text takes in a terminal: 2 for an East Asian wide character, 0 for a combining one."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return the beginning of a text, at most `width` columns of it."""
    while columns(text) > width:
        text = text[:-1]
    return text


def bar(fraction: float, cells: int = WIDEST, fancy: bool = True) -> str:
    """Return a progress bar of `cells` cells, filled to a fraction (0 to 1).

    fancy: use block characters (default); otherwise ASCII, in brackets that add two columns.
    """
    full = round(cells * min(max(fraction, 0.0), 1.0))
    return ("█" * full).ljust(cells, "░") if fancy else f"[{'#' * full:.<{cells}}]"


# -- words -------------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Format seconds in one or two units: "40 s", "3 min", "2 h 10 min", "1 d 3 h"; the smallest is rounded."""
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return _two_units(*divmod(minutes, 60), "h", "min")
    return _two_units(*divmod(round(seconds / 3600), 24), "d", "h")


def _two_units(large: int, small: int, large_unit: str, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"


def speed(rate: float, unit: str) -> str:
    """Format a number per second: "1,234 images/s", "3.2 batches/s", "0.15 iterations/s", "2.5 MB/s"."""
    if unit == "bytes":
        return f"{megabytes(rate)} MB/s"
    number = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
    return f"{number} {unit}/s"


def megabytes(count: float) -> str:
    """Format bytes in units of a million: "0.05", "2.5", "170"."""
    millions = count / 1e6
    return f"{millions:,.0f}" if millions >= 100 else f"{millions:.1f}" if millions >= 1 else f"{millions:.2f}"
