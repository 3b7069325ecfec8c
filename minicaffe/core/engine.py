"""Engines: the interface for computing layers, and the registry of engines.

Caffe has two modes, CPU and GPU, and a layer has a pair of methods for each.  An engine without `base` runs the passes
of a mode with the layers' own code: `NUMPY` below, and the CUDA engine.  An engine with a `base` provides variants of
some layer types for the passes of its base; they are used in nets whose `engine` fields or `set_engine` name it.

A package that adds an engine defines a subclass of `Engine`, registers one object of it with `add_engine`, and
registers its variants of layers (`minicaffe.core.registry.register`) and its fusions (`minicaffe.core.fusion`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe import threads
from minicaffe.core.places import HOST, Place
from minicaffe.errors import DeviceError

if TYPE_CHECKING:
    from minicaffe.core.blob import Blob
    from minicaffe.core.layer import Layer


class Stopwatch:
    """Measures intervals of time and adds them, in milliseconds, to entries of lists.

    An engine may defer the additions until `finish`.
    """

    def start(self) -> None:
        """Start an interval."""
        self._began = time.perf_counter()

    def stop(self, times: list[float], k: int) -> None:
        """End the interval and add its length, in milliseconds, to times[k]."""
        times[k] += 1000 * (time.perf_counter() - self._began)

    def finish(self) -> None:
        """Wait until all measured work is done and all intervals have been added."""


class Step:
    """Runs an iteration of a solver in two parts, `gradients` and `update`; the solver logs the loss in between.

    solver: a `minicaffe.solvers.base.Solver`.
    An engine may do all work in the first part, including capturable gradient hooks; the blobs must be the same after
    both parts.
    """

    reads_loss = True  #: whether the loss of each iteration is read; False where reading it requires synchronization

    def __init__(self, solver: Any) -> None:
        self.solver = solver

    def gradients(self) -> float | None:
        """Clear the diffs of the parameters and run iter_size passes, accumulating diffs.

        Returns the mean loss of the passes; None if `reads_loss` is False and the solver does not need the loss.
        """
        solver, net = self.solver, self.solver.net
        net.clear_param_diffs()
        for on_start in solver.start_hooks:
            on_start(solver)
        loss, needed = 0.0, self.reads_loss or solver.needs_loss
        for k in range(solver.iter_size):
            net.run_forward()
            if k + 1 < solver.iter_size:
                net.run_backward()
            else:
                solver.run_last_backward()
            if needed:
                loss += self.read_loss()
        return loss / solver.iter_size if needed else None

    def read_loss(self) -> float:
        """Return the loss of the passes that have just been run; the solver checks that it is finite."""
        loss = self.solver.net.loss()
        self.solver.check_loss(loss)
        return loss

    @property
    def has_updated(self) -> bool:
        """Whether the parameters have been updated with the gradients of the last passes."""
        return False

    def update(self) -> None:
        """Call the gradient hooks and update the parameters."""
        for hook in self.solver.gradient_hooks:
            hook(self.solver)
        self.solver.apply_update()

    @property
    def averages(self) -> bool:
        """Whether the engine averages gradients by itself (`average`), not through the host."""
        return False

    def average(self) -> None:
        """Replace the diffs of all parameters by their means over the ranks, or queue that; if `averages` is set."""
        raise NotImplementedError

    def apply(self, rate: float) -> None:
        """Update the parameters from their diffs, at the learning rate `rate`."""
        self.solver.update_parameters(rate)


class Engine:
    """Base class of engines; the default methods run layers with numpy on the host.

    name: unique; for engines with a base, the value of `engine` in prototxts.
    mode: "CPU" or "GPU"; determines which pair of a layer's methods is run.
    place: the Place of the results of its layers.
    base: the engine to whose passes it adds variants of layers; None for an engine that runs the passes of a mode.
    """

    name = ""
    mode = "CPU"
    place: Place = HOST
    base: Engine | None = None
    default = False  #: whether its variants are used for layers that name no engine
    aliases: tuple[str, ...] = ()  #: other values of `engine` in prototxts
    settles_each_layer = True  #: whether the views that scripts hold are updated after each layer

    def reason(self) -> str:
        """Return the reason why the engine cannot be used on this machine; '' if it can."""
        return ""

    def available(self) -> bool:
        """Whether the engine can be used on this machine."""
        return not self.reason()

    def start(self, device: int) -> None:
        """Prepare to run passes on device number `device`; DeviceError if the engine cannot be used."""

    def set_threads(self, count: int) -> None:
        """Compute with `count` threads of the CPU from now on, in the whole process."""

    def takes(self, dtype: np.dtype) -> bool:
        """Whether the engine can run layers of this dtype on this machine."""
        return True

    def lacks(self, precision: str) -> str:
        """Return why the engine's layers cannot compute in a precision, "float32" or "bf16"; '' if they can."""
        return "" if precision == "float32" else f"engine {self.name} computes in float32"

    def precision(self, wanted: str) -> str:
        """Return the precision of layers that are made now, if `wanted` is requested for them."""
        return "float32" if self.lacks(wanted) else wanted

    # -- passes ----------------------------------------------------------------------------------------------------

    def forward(self, layer: Layer, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Run the forward pass of one layer."""
        layer.forward_cpu(bottom, top)

    def backward(
        self, layer: Layer, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """Run the backward pass of one layer."""
        layer.backward_cpu(top, propagate_down, bottom)

    def step(self, solver: Any) -> Step:
        """Return a new Step for a solver."""
        return Step(solver)

    def forward_pass(self, net: Any) -> Callable[[Callable[[], None], Any], None] | None:
        """Return what runs forward passes over all layers of a net in TEST; None (default): nothing but the passes.

        It is called with the pass, and with the groups of layers that the pass computes as one; it runs that, or does
        the same in another way.
        """
        return None

    def kernel(self, stem: str, name: str, dtype: np.dtype) -> Any:
        """Return kernel `name` of the engine's source file `stem`, compiled for a dtype.

        Raises DeviceError if the engine has no kernels.
        """
        raise DeviceError(f"engine {self.name} has no kernels")

    # -- measuring -------------------------------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Wait until all queued work is done; DeviceError if it failed."""

    def stopwatch(self) -> Stopwatch:
        """Return a Stopwatch that measures the time of the engine's work."""
        return Stopwatch()

    def memory_usage(self) -> dict[str, int]:
        """Return the bytes of memory that the engine manages, by category; {} for host memory."""
        return {}

    def __repr__(self) -> str:
        return f"<engine {self.name}>"


_engines: dict[str, Engine] = {}  # filled when the packages of engines are imported


def add_engine(engine: Engine) -> Engine:
    """Register an engine and return it; ValueError if there is another engine with its name."""
    if _engines.setdefault(engine.name, engine) is not engine:
        raise ValueError(f"there is an engine {engine.name} already")
    return engine


def engines() -> tuple[Engine, ...]:
    """Return the registered engines."""
    return tuple(_engines.values())


def variant_engines() -> list[Engine]:
    """Return the engines with variants of layers: those with a base."""
    return [engine for engine in engines() if engine.base is not None]


def runner(mode: str) -> Engine:
    """Return the engine that runs the passes of a mode, "CPU" or "GPU"; DeviceError if there is none."""
    for engine in engines():
        if engine.base is None and engine.mode == mode:
            return engine
    raise DeviceError(f"no engine runs layers in {mode} mode")


class _Numpy(Engine):
    """The layers' own numpy code on the host: the reference for all other engines."""

    name = "NUMPY"

    def set_threads(self, count: int) -> None:
        threads.limit_blas(count)


NUMPY = add_engine(_Numpy())
