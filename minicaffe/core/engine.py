"""What computes layers, and where: the contract of engines, and those that have registered themselves.

Caffe has two modes, CPU and GPU, and a layer has a pair of methods for each.  An engine without `base` runs the passes
of a mode with the layers' own code: `NUMPY` below, and the CUDA engine.  An engine with a `base` takes part in the
passes of that one with variants of some types, for nets whose `engine` fields or `set_engine` name it.

A package that adds an engine derives a class, registers one object of it, and registers variants of layers under its
name (`minicaffe.core.registry.register`) and what it computes as one (`minicaffe.core.fusion`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe.core.memory import HOST, Place
from minicaffe.errors import DeviceError

if TYPE_CHECKING:
    from minicaffe.core.blob import Blob
    from minicaffe.core.layer import Layer


class Stopwatch:
    """Adds milliseconds to an entry of a list for each `start` and `stop`; the sums are complete after `finish`."""

    def start(self) -> None:
        """Begin to measure."""
        self._began = time.perf_counter()

    def stop(self, times: list[float], k: int) -> None:
        """Add the time since `start` to times[k]."""
        times[k] += 1000 * (time.perf_counter() - self._began)

    def finish(self) -> None:
        """Wait until all work that was measured is done."""


class Step:
    """An iteration of a solver in two parts, between which the solver reports the loss.

    solver: a `minicaffe.solvers.base.Solver`.  An engine may do all of the work in the first part, gradient hooks that
    allow it included, and in one go: what it leaves in the blobs is the same.
    """

    reads_loss = True  #: whether the loss of each iteration is read, for on the host that takes no time

    def __init__(self, solver: Any) -> None:
        self.solver = solver

    def gradients(self) -> float | None:
        """Clear the parameters' diffs and run iter_size passes, whose diffs add up.

        Returns the mean of their losses, None where the solver does not need it and reading it would take time.
        """
        solver, net = self.solver, self.solver.net
        net.clear_param_diffs()
        for on_start in solver.start_hooks:
            on_start(solver)
        loss, needed = 0.0, self.reads_loss or solver.needs_loss
        for _ in range(solver.iter_size):
            net.run_forward()
            net.run_backward()
            if needed:
                loss += net.loss()
        return loss / solver.iter_size if needed else None

    def update(self) -> None:
        """Call the gradient hooks, and update the parameters."""
        for hook in self.solver.gradient_hooks:
            hook(self.solver)
        self.solver.apply_update()

    def apply(self, rate: float) -> None:
        """Turn the diffs into an update at a learning rate, and subtract it from the parameters."""
        self.solver.update_parameters(rate)


class Engine:
    """Computes layers; its methods are those of the host, where they need nothing but numpy.

    name: as in a prototxt's `engine` field, for engines that have a base.
    mode: "CPU" or "GPU", which of a layer's pairs of methods it runs.
    place: where its layers leave their results.
    base: the engine in whose passes it takes part; None for one that runs the passes of a mode.
    """

    name = ""
    mode = "CPU"
    place: Place = HOST
    base: Engine | None = None
    default = False  #: whether layers for which no engine is named use its variants
    aliases: tuple[str, ...] = ()  #: other names for it in prototxts
    settles_each_layer = True  #: whether views that scripts hold are brought up to date after each layer

    def reason(self) -> str:
        """Why the engine cannot be used here, in a sentence; '' when it can."""
        return ""

    def available(self) -> bool:
        """Whether the engine can be used here."""
        return not self.reason()

    def start(self, device: int) -> None:
        """Get ready to run passes, on the device of that number where there are several; DeviceError if it cannot."""

    def takes(self, dtype: np.dtype) -> bool:
        """Whether it has variants for layers of this dtype, here and now."""
        return True

    # -- passes ----------------------------------------------------------------------------------------------------

    def forward(self, layer: Layer, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One layer's forward pass."""
        layer.forward_cpu(bottom, top)

    def backward(
        self, layer: Layer, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """One layer's backward pass."""
        layer.backward_cpu(top, propagate_down, bottom)

    def step(self, solver: Any) -> Step:
        """What runs this solver's iterations; the solver keeps it."""
        return Step(solver)

    def kernel(self, stem: str, name: str, dtype: np.dtype) -> Any:
        """The kernel of that name in the engine's source file for a layer's file."""
        raise DeviceError(f"engine {self.name} has no kernels")

    # -- measuring -------------------------------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Wait until all work is done; DeviceError when it failed."""

    def stopwatch(self) -> Stopwatch:
        """What measures the time that the engine takes."""
        return Stopwatch()

    def memory_usage(self) -> dict[str, int]:
        """Bytes of the engine's own memory, by what they are: nothing for the host's."""
        return {}

    def __repr__(self) -> str:
        return f"<engine {self.name}>"


_engines: dict[str, Engine] = {}  # written to when a package of an engine is imported


def add_engine(engine: Engine) -> Engine:
    """Register an engine; its name must be new."""
    if _engines.setdefault(engine.name, engine) is not engine:
        raise ValueError(f"there is an engine {engine.name} already")
    return engine


def engines() -> tuple[Engine, ...]:
    """The registered engines."""
    return tuple(_engines.values())


def runner(mode: str) -> Engine:
    """The engine that runs the passes of a mode, "CPU" or "GPU"; DeviceError if there is none."""
    for engine in engines():
        if engine.base is None and engine.mode == mode:
            return engine
    raise DeviceError(f"no engine runs layers in {mode} mode")


class _Numpy(Engine):
    """The layers' own code on the host: what all other engines are compared with."""

    name = "NUMPY"


NUMPY = add_engine(_Numpy())
