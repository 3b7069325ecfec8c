"""Which display fits the output of this process."""

from __future__ import annotations

from typing import TextIO

from minicaffe.progress.display import Display
from minicaffe.progress.notebook import NotebookLine, in_notebook
from minicaffe.progress.plain import PlainLines
from minicaffe.progress.terminal import StatusLine


def suitable(stream: TextIO | None = None) -> Display:
    """Return the display for the output of this process: that of a notebook, of a terminal, or plain lines.

    stream: a text stream, which is not that of a notebook; None (default): standard error.
    """
    if stream is None and in_notebook():
        return NotebookLine()
    status = StatusLine(stream)
    return status if status.is_terminal else PlainLines(stream)
