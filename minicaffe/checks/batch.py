"""Checks of one batch."""

from __future__ import annotations

from typing import Any

from minicaffe.checks.subject import Subject


class FirstBatch:
    """The first batch of a Subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject: Any = subject
