"""Checks of the data sets."""

from __future__ import annotations

from typing import Any

from minicaffe.checks.subject import Subject


class DataSets:
    """The data sets of a Subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject: Any = subject
