"""What notebooks show of an object: HTML, made by a function that is handed in from above."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_makers: dict[type, Callable[[Any], str]] = {}


def show_by(cls: type, make: Callable[[Any], str]) -> None:
    """Let a function make the HTML of a class's objects."""
    _makers[cls] = make


class Shown:
    """Mixin of a class whose objects notebooks show as HTML, if `show_by` has been called for it."""

    def _repr_html_(self) -> str | None:
        """Return the HTML for a notebook; None: it shows the text of `repr`."""
        make = next((_makers[cls] for cls in type(self).__mro__ if cls in _makers), None)
        return None if make is None else make(self)
