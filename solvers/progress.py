"""The progress line of a training: what is done, losses, scores, speed and remaining time."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from minicaffe.progress.choice import suitable
from minicaffe.progress.display import Display
from minicaffe.progress.parts import Bar, Part, duration, speed
from minicaffe.progress.terminal import StatusLine, below_log
from minicaffe.text import number_names

log = logging.getLogger("minicaffe")

# Ranks: what is left out first where the line is too long.
_NAME, _EPOCH, _SCORE, _BAR, _SPEED, _COUNT, _LOSS, _LEFT, _PERCENT = range(9)


class TrainingProgress:
    """Observer of a solver that shows its progress.

    A line has the net's name, a bar, the percentage, iterations, epochs where the size of the training data is known,
    the smoothed loss, the accuracy or mAP of the last test, images (or iterations) per second, and the remaining time.
    Where it is too long, the bar shrinks first; then these are left out, in this order: name, epochs, accuracy, bar,
    speed, iterations, loss, remaining time.
    The speed is that of the last 63 iterations, without the time of tests; the remaining time includes the remaining
    tests.

    display: where to show it.
    first, last: the iterations between which the bar fills (default: 0 and max_iter).
    """

    def __init__(self, display: Display, solver: Any, first: int = 0, last: int | None = None) -> None:
        self.display = display
        self._first, self._last = first, solver.param.max_iter if last is None else last
        self._began = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque([(self._began, solver.iter)], maxlen=64)
        ranks = solver.ranks.group.size
        self._images = images_per_iteration(solver) * ranks
        records = training_records(solver)
        self._epochs_each = self._images / records if records else 0.0
        self._smooth_loss: float | None = None
        self._accuracy = ""
        self._test_began: float | None = None
        self._test_seconds = 0.0
        self._show(solver)

    def on_iteration(self, solver: Any, loss: float | None) -> None:
        """Called after the passes of one iteration: update the count, and the smoothed loss unless `loss` is None."""
        if loss is not None:
            self._smooth_loss = loss if self._smooth_loss is None else 0.95 * self._smooth_loss + 0.05 * loss
        self._recent.append((time.monotonic(), solver.iter + 1))
        self._show(solver)

    def on_test_batch(self, solver: Any, net_id: int, batch: int) -> None:
        """Called after one batch of a test: show the progress of the test."""
        if batch == 0 and net_id == 0:
            self._test_began = time.monotonic()
        done, batches = batch + 1, solver.param.test_iter[net_id]
        self.display.set(
            [
                Part(solver.net.name, _NAME),
                Part("testing", _LEFT),
                Bar(done / batches, _BAR),
                Part(f"{done / batches:4.0%}", _PERCENT),
                Part(f"{done}/{batches}", _COUNT),
            ]
        )

    def on_test(self, solver: Any, net_id: int, scores: dict[str, list[float]]) -> None:
        """Called after a test: keep its accuracy or mAP, and exclude the test's time from the rate."""
        detection = solver.param.eval_type == "detection"
        named = [(name, values) for name, values in scores.items() if values and (detection or "acc" in name.lower())]
        if named:
            name, values = min(named, key=lambda each: len(each[1]) > 1)  # the first one of a single number, if any
            self._accuracy = f"{number_names(name, len(values))[0]} {values[0]:.4f}"
        if self._test_began is not None and net_id == len(solver.test_nets) - 1:
            self._test_seconds = time.monotonic() - self._test_began
            shifted = [(when + self._test_seconds, it) for when, it in self._recent]
            self._recent.clear()
            self._recent.extend(shifted)
            self._test_began = None

    def finish(self, solver: Any) -> None:
        """Leave a last line, with the time that the training took."""
        took = duration(time.monotonic() - self._began)
        self.display.set([*self._parts(solver, solver.iter), Part(f"took {took}", _LEFT)])
        self.display.keep()

    def _rate(self) -> float:
        """Iterations per second."""
        (begin, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) / (end - begin) if last > first and end > begin else 0.0

    def _show(self, solver: Any) -> None:
        parts, rate = self._parts(solver, self._recent[-1][1]), self._rate()
        if rate:
            parts.append(Part(f"{duration(self._seconds_left(solver, rate))} left", _LEFT))
        self.display.set(parts)

    def _seconds_left(self, solver: Any, rate: float) -> float:
        done = self._recent[-1][1]
        every = solver.param.test_interval if solver.test_nets else 0
        tests = self._last // every - done // every if every else 0
        return max(self._last - done, 0) / rate + tests * self._test_seconds

    def _parts(self, solver: Any, done: int) -> list[Part | Bar]:
        """The parts of the line after `done` iterations, without that of the time."""
        total = self._last
        fraction = (done - self._first) / (total - self._first) if total > self._first else 1.0
        parts: list[Part | Bar] = [Part(solver.net.name, _NAME)] if solver.net.name else []
        parts += [Bar(fraction, _BAR), Part(f"{fraction:4.0%}", _PERCENT), Part(f"{done}/{total}", _COUNT)]
        if total * self._epochs_each >= _SHOWN_EPOCHS:
            epochs = f"epoch {_epochs(done * self._epochs_each)}/{_epochs(total * self._epochs_each)}"
            parts.append(Part(epochs, _EPOCH))
        if self._smooth_loss is not None:
            parts.append(Part(f"loss {self._smooth_loss:.4g}", _LOSS))
        if self._accuracy:
            parts.append(Part(self._accuracy, _SCORE))
        if rate := self._rate():
            each, unit = (self._images, "images") if self._images else (1, "iterations")
            parts.append(Part(speed(rate * each, unit), _SPEED))
        return parts


_SHOWN_EPOCHS = 0.1  #: of the whole training; fewer would be shown as 0.0


def _epochs(count: float) -> str:
    return f"{count:.0f}" if count >= 100 else f"{count:.1f}"


@contextlib.contextmanager
def showing(solver: Any, wanted: bool, last: int) -> Iterator[None]:
    """Show the progress of a solver inside the block, if `wanted`, where it suits the process's output.

    Of several ranks, only the root shows it.  last: the iteration at which the block ends.
    """
    if not wanted or not solver.ranks.root:
        yield
        return
    display = suitable()
    watch = TrainingProgress(display, solver, solver.iter if solver.iter < last else 0, last)
    solver.observers.append(watch)
    try:
        with below_log(display, log) if isinstance(display, StatusLine) else contextlib.nullcontext():
            yield
    finally:
        solver.observers[:] = [one for one in solver.observers if one is not watch]
        watch.finish(solver)


# -- the training data -------------------------------------------------------------------------------------------------


def images_per_iteration(solver: Any) -> int:
    """Number of images per update: the batch size of the first data layer times iter_size; 0 if there is none."""
    source = _data_layer(solver.net)
    return 0 if source is None else solver.net.tops[source][0].shape[0] * max(solver.param.iter_size, 1)


def training_records(solver: Any) -> int | None:
    """Number of records of the first data layer, in a pass over its source; None if that is not known."""
    source = _data_layer(solver.net)
    return None if source is None else getattr(solver.net.layers[source], "records", None)


def _data_layer(net: Any) -> int | None:
    """Return the index of the first layer without bottoms whose first top has a shape; None if there is none."""
    for index, (tops, bottoms) in enumerate(zip(net.tops, net.bottoms)):
        if tops and not bottoms and tops[0].shape:
            return index
    return None
