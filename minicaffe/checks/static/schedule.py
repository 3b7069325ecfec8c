"""What the solver's numbers of iterations leave out: iterations, tests, log lines, snapshots."""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.subject import Subject


@finds("static", "no-iterations", "warning")
def no_iterations(subject: Subject) -> Iterator[Found]:
    """Find trainings that are at their end when they start."""
    start, last = subject.start, subject.param.max_iter
    if start >= last:
        what = f"the solver state is of iteration {start}, and " if start else ""
        yield (
            "solver: max_iter",
            f"{what}max_iter is {last}, so no iteration is run: write a larger max_iter",
        )


@finds("static", "nothing-saved", "warning")
def nothing_saved(subject: Subject) -> Iterator[Found]:
    """Find trainings whose weights are not written."""
    param = subject.param
    if not param.snapshot_after_train and not 0 < param.snapshot <= param.max_iter and param.max_iter:
        every = f"snapshot {param.snapshot} is above max_iter {param.max_iter}" if param.snapshot else "snapshot is 0"
        yield (
            "solver: snapshot_after_train",
            f"snapshot_after_train is false and {every}, so the trained weights are not written: remove "
            "snapshot_after_train, or write a snapshot that is not above max_iter",
        )


@finds("static", "no-test", "info")
def no_test(subject: Subject) -> Iterator[Found]:
    """Find test intervals that end after the training."""
    param = subject.param
    if subject.tests and param.test_interval > param.max_iter > 0:
        when = "tests run before the first iteration only" if param.test_initialization else "no test is run"
        yield (
            "solver: test_interval",
            f"test_interval {param.test_interval} is above max_iter {param.max_iter}, so {when}",
        )


@finds("static", "no-display", "info")
def no_display(subject: Subject) -> Iterator[Found]:
    """Find solvers that log no loss of the training."""
    param = subject.param
    if param.max_iter and not param.display:
        yield "solver: display", "display is 0, so the training loss is not logged: write display: 100"
