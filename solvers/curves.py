"""The curves of a training so far: losses, rates and scores of tests, thinned so that memory is bounded."""

from __future__ import annotations

from typing import Any

from minicaffe.text import number_names

MOST = 1000  #: points of a curve
_MOST_NUMBERS = 20  #: of an output


class Series:
    """Values by iteration, at most `MOST` of them: when there are more, every second one is dropped.

    Those kept are of multiples of `stride`, so the points are evenly spaced, after `go_back` as well.
    The last value is kept in any case.
    """

    def __init__(self) -> None:
        self.stride = 1
        self._kept: dict[int, float] = {}
        self._last: tuple[int, float] | None = None

    def add(self, iteration: int, value: float) -> None:
        """Add the value of an iteration; it replaces an earlier one of the same iteration."""
        self._last = iteration, value
        if self.is_due(iteration):
            self._kept[iteration] = value
        while len(self._kept) >= MOST:
            self.stride *= 2
            self._kept = {each: value for each, value in self._kept.items() if self.is_due(each)}

    def is_due(self, iteration: int) -> bool:
        """Whether the value of an iteration is one of those that are kept."""
        return iteration % self.stride == 0

    def go_back(self, iteration: int) -> None:
        """Drop the values from an iteration on, which is going to be run again."""
        self._kept = {each: value for each, value in self._kept.items() if each < iteration}
        self._last = next(reversed(self._kept.items()), None)

    @property
    def points(self) -> list[tuple[int, float]]:
        """The values that are kept, with their iterations, and the last one."""
        kept = self._kept if self._last is None else {**self._kept, self._last[0]: self._last[1]}
        return list(kept.items())


class Curves:
    """Observer of a solver, part of it, that keeps the curves of the training in this process.

    loss: of each iteration, as far as it was read (see `Solver.observers`).  rate: the learning rates of the updates.
    tests: the mean outputs of the test nets, by the net's index and the output's name; each number of one with several
    has a name of its own, name[0] and so on, up to 20.
    It is no part of snapshots; `restore` drops the values from its iteration on.
    """

    def __init__(self) -> None:
        self.loss, self.rate = Series(), Series()
        self.tests: dict[tuple[int, str], Series] = {}

    def on_iteration(self, solver: Any, loss: float | None) -> None:
        """Called after the passes of one iteration: keep its loss, unless it is None, and its learning rate."""
        if loss is not None:
            self.loss.add(solver.iter, loss)
        if self.rate.is_due(solver.iter):
            self.rate.add(solver.iter, solver.lr)

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: keep its scores."""
        for name, values in scores.items():
            if len(values) <= _MOST_NUMBERS:
                for each, value in zip(number_names(name, len(values)), values):
                    self.tests.setdefault((net_id, each), Series()).add(solver.iter, value)

    def go_back(self, iteration: int) -> None:
        """Drop the values from an iteration on, which is going to be run again."""
        for series in (self.loss, self.rate, *self.tests.values()):
            series.go_back(iteration)
