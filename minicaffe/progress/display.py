"""What shows a progress line."""

from __future__ import annotations

from typing import Protocol

from minicaffe.progress.parts import Parts


class Display(Protocol):
    """A line of parts that is replaced by the next one."""

    def set(self, parts: Parts | str, now: bool = False) -> None:
        """Show parts, or a text, in place of the line before.

        now: if False (default), the call is ignored soon after the previous update.
        """

    def keep(self) -> None:
        """Leave the newest line where it is; the next one is shown below it."""

    def clear(self) -> None:
        """Remove the line, where that is possible."""
