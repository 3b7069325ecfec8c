"""The log of several ranks: the root's lines; of the others only warnings and errors, with the number of their rank."""

from __future__ import annotations

import logging

from minicaffe.core.settings import settings
from minicaffe.glog import GlogFormatter, write_once


class RankFormatter(GlogFormatter):
    """Format a record as `GlogFormatter`; the text of another rank than the root begins with "rank 2: "."""

    def message(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        rank = settings.solver_rank
        return f"rank {rank}: {super().message(record)}" if rank else super().message(record)


def is_logged(record: logging.LogRecord) -> bool:
    """Whether a record of this rank is part of the log."""
    return settings.solver_rank == 0 or record.levelno >= logging.WARNING


def prepare(handler: logging.Handler) -> None:
    """Let a handler write the lines of this rank, and lines of all nets of a run once."""
    handler.setFormatter(RankFormatter())
    handler.addFilter(is_logged)
    write_once(handler)
