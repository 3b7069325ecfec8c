"""Agreement of several ranks on the capture of a step with operations of NCCL: all capture it, or none does."""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.cuda.graph import NotCapturable
from minicaffe.parallel.group import Group


def first(reasons: Sequence[str]) -> str:
    """Return the first of the ranks' reasons that is not empty, with the rank's number; '' if there is none."""
    return next((f"rank {rank}: {reason}" for rank, reason in enumerate(reasons) if reason), "")


class Accord:
    """What the ranks of a group exchange while each captures its step.

    Each rank calls `reach` before the first operation that is captured, and `finish` after the capture; where it fails
    before it has come to `reach`, only `finish`.  All call `finish` with a known obstacle when a step is set up, too.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._reached: str | None = None  # what `reach` has found in this capture; None: it has not been called

    def reach(self) -> None:
        """Wait until all ranks are about to capture an operation; raise NotCapturable if one of them cannot."""
        if self._reached is None:
            self._reached = self._exchange("")
        if self._reached:
            raise NotCapturable(self._reached)

    def finish(self, failure: str) -> str:
        """Return why no rank may use its graph; '' if all have one.

        failure: why this rank has none, '' if it has.
        """
        reached, self._reached = self._reached, None
        if reached is None:
            reached = self._exchange(failure)
        return reached or self._exchange(failure)

    def _exchange(self, reason: str) -> str:
        return first(self._group.exchange(reason))
