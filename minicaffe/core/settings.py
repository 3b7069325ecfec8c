"""CPU or GPU, which device, which CPU engine.

Caffe keeps these in `Caffe::Get()`, for each thread its own; scripts change them through `set_mode_cpu`,
`set_mode_gpu`, `set_device` and, new here, `set_engine`.
"""

from __future__ import annotations

import threading
from typing import Any

from minicaffe.errors import UsageError

ENGINES = ("DEFAULT", "CAFFE", "ONEDNN", "CUDNN")


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


class Config:
    """The settings of each thread; `config` below is the only instance."""

    gpu = PerThread(False)
    device = PerThread(0)
    engine = PerThread("DEFAULT")
    math = PerThread("float32")  #: of products on the GPU, see minicaffe.cuda.set_math


config = Config()


def set_mode_cpu() -> None:
    """Run every layer's CPU path from now on, in this thread."""
    config.gpu = False


def set_mode_gpu() -> None:
    """Run every layer's GPU path from now on, in this thread (layers without one run on the CPU).

    Raises `DeviceError` when there is no PyCUDA or no CUDA device, naming which.
    """
    from minicaffe.cuda import context

    context.require(config.device)
    config.gpu = True


def set_device(device_id: int) -> None:
    """Choose the CUDA device, by number, that `set_mode_gpu` uses."""
    config.device = int(device_id)
    if config.gpu:
        set_mode_gpu()


def set_engine(engine: str) -> None:
    """Choose the engine of nets that this thread builds from now on, over what their prototxts say.

    engine: "DEFAULT" (the prototxt's `engine` field, else the fastest that is installed), "CAFFE" (our own numpy
    and CUDA code), "ONEDNN" or "CUDNN".
    """
    if engine not in ENGINES:
        raise UsageError(f"set_engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    config.engine = engine
