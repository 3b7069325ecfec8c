"""CPU or GPU, which device, which engine's variants of layers.

Caffe keeps these in `Caffe::Get()`, for each thread its own; scripts change them through `set_mode_cpu`,
`set_mode_gpu`, `set_device` and, new here, `set_engine`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from minicaffe.core.engine import NUMPY, engines, runner
from minicaffe.errors import UsageError


class PerThread:
    """An attribute of which each thread has its own value; a thread that has set none reads the main thread's.

    default: the value until the main thread sets one.
    """

    def __init__(self, default: Any) -> None:
        self._main = default
        self._own = threading.local()

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(self._own, "value", self._main)

    def __set__(self, instance: object, value: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._main = value
            vars(self._own).pop("value", None)  # of the thread that forked, which is the main thread of its child
        else:
            self._own.value = value


class Settings:
    """The settings of each thread; `settings` below is the only instance."""

    engine = PerThread(NUMPY)  #: the Engine that runs passes
    variants = PerThread("DEFAULT")  #: what `set_engine` has chosen for nets that are built
    device = PerThread(0)
    solver_rank = PerThread(0)  #: which of the solvers that train together this thread's is; data layers read its share
    solver_count = PerThread(1)


settings = Settings()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Set mode, device and engine of this thread at the end to what they are at the beginning."""
    engine, variants, device = settings.engine, settings.variants, settings.device
    try:
        yield
    finally:
        settings.engine, settings.variants = engine, variants
        set_device(device)


def set_mode_cpu() -> None:
    """Run every layer's CPU path from now on, in this thread."""
    settings.engine = runner("CPU")


def set_mode_gpu() -> None:
    """Run every layer's GPU path from now on, in this thread (layers without one run on the CPU).

    Raises `DeviceError` when there is no PyCUDA or no CUDA device, naming which.
    """
    engine = runner("GPU")
    engine.start(settings.device)
    settings.engine = engine


def set_device(device_id: int) -> None:
    """Choose the CUDA device, by number, that `set_mode_gpu` uses."""
    settings.device = int(device_id)
    settings.engine.start(settings.device)


def variant_names() -> list[str]:
    """The names of engines with variants of layers, as in prototxts."""
    return [engine.name for engine in engines() if engine.base is not None]


def set_engine(engine: str) -> None:
    """Choose the engine of nets that this thread builds from now on, over what their prototxts say.

    engine: "DEFAULT" (the prototxt's `engine` field, else the fastest that is installed), "CAFFE" (our own numpy
    and CUDA code), or an engine's name: "ONEDNN", "CUDNN".
    """
    known = ("DEFAULT", "CAFFE", *variant_names())
    if engine not in known:
        raise UsageError(f"set_engine: expected one of {', '.join(known)}, got {engine!r}")
    settings.variants = engine
