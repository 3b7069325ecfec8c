"""What all contestants share: the values they compute with, how they are made, and how steps on the CPU are timed.

The weights are drawn from the layers' names, so that all compute the same numbers.
"""

from __future__ import annotations

import resource
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

MOMENTUM, DECAY = 0.9, 0.004
PEAK_SIZE = 8192  # of the matrices whose product measures the peak


def weights_of(name: str, shapes) -> list[np.ndarray]:
    """Return arrays for a layer's learned parameters: scaled normal numbers, for vectors uniform in [0.5, 1)."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    result = []
    for shape in shapes:
        fan_in = int(np.prod(shape[1:]))
        array = rng.standard_normal(shape) * np.sqrt(2 / fan_in) if len(shape) > 1 else rng.random(shape) * 0.5 + 0.5
        result.append(array.astype(np.float32))
    return result


def inputs_of(shape) -> tuple[np.ndarray, np.ndarray]:
    """Return random data of a shape, and labels from 0 to 9."""
    rng = np.random.default_rng(7)
    return rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, shape[0])


def differences(reference: dict[str, list], other: dict[str, list]) -> dict[str, float]:
    """Return, by key of two first passes, the largest difference relative to the largest value."""
    found = {}
    for key in (key for key in reference if key in other):
        # one scale for weights and bias: the bias before a BatchNorm has no gradient but rounding errors
        scale = max(float(np.abs(a).max()) for a in reference[key]) or 1.0
        pairs = zip(reference[key], other[key], strict=True)
        found[key] = float(np.max([np.abs(np.ravel(a) - np.ravel(b)).max() for a, b in pairs])) / scale
    return found


class Contestant:
    """A framework that runs a net, in a process of its own: `build` returns numbers to compare, `run` times.

    variant: distinguishes the contestants of one class; its form is the class's
    """

    rate = 0.001
    training: bool

    def __init__(self, variant: Any) -> None:
        self.variant = variant

    def build(self, param, training: bool) -> dict[str, list]:
        """Make the net; return what its first pass computes: the loss and all gradients, or the scores."""
        self.training = training
        self.make(param)
        return self.first_pass()

    def make(self, param) -> None:
        """Make the net of a NetParameter, with the weights and inputs of all."""
        raise NotImplementedError

    def first_pass(self) -> dict[str, list]:
        """The loss and all gradients by layer, or the scores."""
        raise NotImplementedError

    def step(self) -> None:
        """A pass and, in training, the update."""
        raise NotImplementedError


class CpuContestant(Contestant):
    """Runs with a number of threads; steps are timed one by one."""

    def __init__(self, variant: Any, threads: int) -> None:
        super().__init__(variant)
        self.threads = threads

    def run(self, steps: int, clock: str = "perf_counter") -> list[float]:
        """Seconds of each of so many steps, by a function of the module `time`."""
        now, times = getattr(time, clock), []
        self.step()  # caches and workers wake up
        for _ in range(steps):
            start = now()
            self.step()
            times.append(now() - start)
        return times

    def run_for(self, seconds: float) -> list[float]:
        """Seconds of each of the steps that begin within so many seconds; of two at least."""
        times: list[float] = []
        start = now = time.perf_counter()
        end = start + seconds
        while now < end or len(times) < 2:
            self.step()
            start, now = now, time.perf_counter()
            times.append(now - start)
        return times

    def peak(self) -> float:
        """Megabytes that the process held at most."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class GpuContestant(Contestant):
    """Runs a net in several ways, by name.

    smoke: whether tiny sizes are wanted
    """

    ways = ("graph", "plain")
    rate = 1e-6  # weights hardly move, so that no net runs into infinities while it is timed

    def __init__(self, variant: Any, smoke: bool) -> None:
        super().__init__(variant)
        self.smoke = smoke

    def run(self, way: str, steps: int) -> float:
        """Seconds of so many steps, the device's end waited for."""
        run = self.prepare(way)
        self.wait()
        began = time.perf_counter()
        run(steps)
        self.wait()
        return time.perf_counter() - began

    def prepare(self, way: str) -> Callable[[int], None]:
        """A function that runs so many steps in one of the ways."""
        raise NotImplementedError

    def wait(self) -> None:
        """Wait until the device has done all that was queued."""
        raise NotImplementedError

    def ceilings(self) -> dict[str, float]:
        """FLOP a second of a product of large matrices; perhaps bytes a second of a copy."""
        raise NotImplementedError


def repeat(step: Callable[[], Any]) -> Callable[[int], None]:
    """A function that runs so many steps."""

    def run(steps: int) -> None:
        for _ in range(steps):
            step()

    return run
