"""What notebooks show of an object: HTML, made by a function that is handed in from above."""

from __future__ import annotations

import importlib

_makers: dict[type, tuple[str, str]] = {}


def show_by(cls: type, module: str, function: str) -> None:
    """Let a function make the HTML of a class's objects; its module is imported when the first one is shown."""
    _makers[cls] = module, function


class Shown:
    """Mixin of a class whose objects notebooks show as HTML, if `show_by` has been called for it."""

    def _repr_html_(self) -> str | None:
        """Return the HTML for a notebook; None: it shows the text of `repr`."""
        for cls in type(self).__mro__:
            if cls in _makers:
                module, function = _makers[cls]
                return getattr(importlib.import_module(module), function)(self)
        return None
