"""The curves of a training so far: losses, rates and scores of tests, thinned so that memory is bounded."""

from __future__ import annotations

from typing import Any

MOST = 1000  #: points of a curve


class Series:
    """Values by iteration, at most `MOST` of them: when there are more, every second one is dropped.

    Then only one of `stride` values is kept, so the points stay evenly spaced.  The last value is kept in any case.
    """

    def __init__(self) -> None:
        self.stride = 1
        self._kept: list[tuple[int, float]] = []
        self._count = 0
        self._last: tuple[int, float] | None = None

    def add(self, iteration: int, value: float) -> None:
        """Add the value of an iteration."""
        self._last = iteration, value
        if self.is_due:
            self._kept.append(self._last)
        self._count += 1
        if len(self._kept) >= MOST:
            self._kept = self._kept[::2]
            self.stride *= 2

    @property
    def is_due(self) -> bool:
        """Whether the next value is one of those that are kept."""
        return self._count % self.stride == 0

    def skip(self) -> None:
        """Count a value that is not kept, without it."""
        self._count += 1

    def go_back(self, iteration: int) -> None:
        """Drop the values from an iteration on, which is going to be run again."""
        self._kept = [point for point in self._kept if point[0] < iteration]
        self._count = len(self._kept) * self.stride
        self._last = self._kept[-1] if self._kept else None

    @property
    def points(self) -> list[tuple[int, float]]:
        """The values that are kept, with their iterations, and the last one."""
        if self._last is None or self._kept[-1:] == [self._last]:
            return list(self._kept)
        return [*self._kept, self._last]


class Curves:
    """Observer of a solver, part of it, that keeps the curves of the training in this process.

    loss: of each iteration, as far as it was read (see `Solver.observers`).  rate: the learning rates of the updates.
    tests: the mean outputs of the test nets, by the net's index and the output's name; not those of several values.
    It is no part of snapshots; `restore` drops the values from its iteration on.
    """

    def __init__(self) -> None:
        self.loss, self.rate = Series(), Series()
        self.tests: dict[tuple[int, str], Series] = {}

    def on_iteration(self, solver: Any, loss: float | None) -> None:
        """Called after the passes of one iteration: keep its loss, unless it is None, and its learning rate."""
        if loss is not None:
            self.loss.add(solver.iter, loss)
        if self.rate.is_due:
            self.rate.add(solver.iter, solver.lr)
        else:
            self.rate.skip()

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: keep its scores."""
        for name, values in scores.items():
            if len(values) == 1:
                self.tests.setdefault((net_id, name), Series()).add(solver.iter, values[0])

    def go_back(self, iteration: int) -> None:
        """Drop the values from an iteration on, which is going to be run again."""
        for series in (self.loss, self.rate, *self.tests.values()):
            series.go_back(iteration)
