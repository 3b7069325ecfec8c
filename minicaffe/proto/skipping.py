"""Whether unknown fields that change no result are left out when a prototxt is read: one rule for the process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_skips_hints = False


def skips_hints() -> bool:
    """Whether such fields are left out."""
    return _skips_hints


def skip_unknown_fields(skip: bool = True) -> None:
    """Choose whether prototxts are read without the fields of forks that change no result, in all threads.

    Such fields are hints about memory, speed or logs, or about numbers of few bits, where minicaffe computes in float;
    docs/reference/forks.md lists them.  One line of the log names those that are left out.

    skip: True (default) or False, which is in force at the start: an unknown field is an error.  Any other unknown
    field, and an unknown layer type, is always an error.
    """
    global _skips_hints
    _skips_hints = bool(skip)


@contextlib.contextmanager
def skipping(skip: bool = True) -> Iterator[None]:
    """Put a choice in force in the `with` block, then the previous one."""
    before = skips_hints()
    skip_unknown_fields(skip)
    try:
        yield
    finally:
        skip_unknown_fields(before)
