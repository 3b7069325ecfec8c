"""Progress in a notebook: one output of the cell, which is updated in place."""

from __future__ import annotations

import secrets
import sys
import time
from html import escape
from typing import Any

from minicaffe.errors import printable_line
from minicaffe.progress.parts import WIDEST, Bar, Parts, fitted

_REDRAW_SECONDS = 0.25
_TEXT_COLUMNS = 120  #: of the form in plain text


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: IPython has been imported, and its shell has a kernel."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(get_shell(), "kernel", None) is not None


class NotebookLine:
    """An output of a notebook's cell, in HTML, with a form in plain text; IPython must be there (`in_notebook`)."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._id, self._exists = secrets.token_hex(8), False
        self._parts: Parts | str = ""
        self._drawn = 0.0

    def set(self, parts: Parts | str, now: bool = False) -> None:
        """Show parts; the call is ignored within 0.25 s of the previous update, unless `now` (default False)."""
        self._parts = parts
        if now or time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def keep(self) -> None:
        """Show the newest line; the next one gets an output of its own."""
        if self._parts:
            self._draw()
        self._begin()

    def clear(self) -> None:
        """Leave an empty output: IPython cannot remove one."""
        if self._exists:
            self._parts = ""
            self._draw()
        self._begin()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        _display(_bundle(self._parts), self._id, self._exists)
        self._exists = True


def _display(bundle: dict[str, str], display_id: str, update: bool) -> None:
    """Show a bundle of forms by MIME type, in place of the one that was shown with the same id if `update`."""
    show: Any = sys.modules["IPython"].display.display
    show(bundle, raw=True, display_id=display_id, update=update)


def _bundle(parts: Parts | str) -> dict[str, str]:
    if isinstance(parts, str):
        return {"text/plain": printable_line(parts), "text/html": f"<div>{escape(printable_line(parts))}</div>"}
    pieces = (_piece(part.fraction) if isinstance(part, Bar) else escape(part.shown) for part in parts)
    html = f'<div style="white-space: nowrap; overflow: auto">{"&ensp; ".join(pieces)}</div>'
    return {"text/plain": fitted(parts, _TEXT_COLUMNS), "text/html": html}


def _piece(fraction: float) -> str:
    """An HTML element that shows a fraction as a bar."""
    value = min(max(fraction, 0.0), 1.0)
    return f'<progress value="{value:.4f}" max="1" style="width: {WIDEST / 2:g}em; vertical-align: middle"></progress>'
