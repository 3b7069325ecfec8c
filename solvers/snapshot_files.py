"""The snapshots of a prefix: files `<prefix>_iter_<n>.runstate`, `.caffemodel[.h5]` and `.solverstate[.h5]`."""

from __future__ import annotations

import contextlib
import logging
import os
import re

from minicaffe.errors import SnapshotError
from minicaffe.files import remove_leftovers
from minicaffe.solvers.snapshot import check_whole

log = logging.getLogger("minicaffe")

_NAME = re.compile(r"_iter_(0|[1-9][0-9]*)(\.runstate|\.(caffemodel|solverstate)(\.h5)?)")


def of_prefix(prefix: str) -> dict[int, list[str]]:
    """Return the paths of all snapshot files of a prefix, by iteration."""
    folder, start = os.path.split(prefix)
    found: dict[int, list[str]] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder or ".")):
            match = _NAME.fullmatch(name[len(start) :]) if name.startswith(start) else None
            if match:
                found.setdefault(int(match[1]), []).append(os.path.join(folder, name))
    return found


def is_state(path: str) -> bool:
    """Whether a path has the extension of a solver state."""
    return path.endswith((".solverstate", ".solverstate.h5"))


def newest(prefix: str) -> str | None:
    """Return the path of the solver state of the newest whole set of files; None if there is none.

    The newest is the one written last, and of those written at the same time, the one of the highest iteration.
    Sets that are not whole (`snapshot.check_whole`) are passed over, with one log line for each.
    """
    states = [(_time(path), n, path) for n, paths in of_prefix(prefix).items() for path in paths if is_state(path)]
    for _, _, path in sorted(states, reverse=True):
        if is_whole(path):
            return path
    return None


def _time(path: str) -> int:
    """Return the time of the last change of a file in nanoseconds; 0 if it is no longer there."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path).st_mtime_ns
    return 0


def is_whole(path: str) -> bool:
    """Whether the set of a solver state is whole; logs a warning if it is not."""
    try:
        check_whole(path)
    except SnapshotError as error:
        log.warning("The snapshot %s is not whole: %s", path, error)
        return False
    return True


def remove(paths: list[str]) -> None:
    """Remove files of one iteration, solver states first, so that no remainder is taken for a whole set."""
    for path in sorted(paths, key=is_state, reverse=True):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def remove_temporaries(prefix: str) -> None:
    """Remove the hidden temporary files of killed processes that were to become snapshots of a prefix."""
    for start in ("_iter_", "_best."):
        for path in remove_leftovers(prefix + start):
            log.info("Removed the temporary file %s of a killed process", path)
