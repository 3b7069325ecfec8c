"""Outputs that grow while a program runs; one that cannot be written to does not end it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from minicaffe.errors import DataError

log = logging.getLogger("minicaffe")


class Output:
    """What a program writes to piece by piece.

    name: for messages, such as "the log 'x.log'".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._error: DataError | None = None

    def attempt(self, write: Callable[[], None]) -> None:
        """Call a function that writes; log its first OSError as a warning and keep it for `check`."""
        try:
            write()
        except (OSError, ValueError) as error:  # ValueError: of a text stream that is closed
            if self._error is None:
                self._error = DataError(f"cannot write {self.name}: {getattr(error, 'strerror', None) or error}")
                log.warning("%s; the run goes on", self._error)

    def check(self) -> None:
        """Raise DataError if anything could not be written."""
        if self._error is not None:
            raise self._error
