"""Settings of each thread: mode (CPU or GPU), device, the engine whose variants of layers are used, and the precision.

They correspond to Caffe's thread-local `Caffe::Get()`.  Scripts change them with `set_mode_cpu`, `set_mode_gpu`,
`set_device`, and `set_engine` and `set_precision`, which Caffe does not have.  The number of threads (`set_threads`) is
for all threads.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from minicaffe.core.engine import NUMPY, engines, runner, variant_engines
from minicaffe.errors import UsageError
from minicaffe.threads import THREADS, blas_restored

FLOAT32, BF16 = "float32", "bf16"
PRECISIONS = ("DEFAULT", FLOAT32, BF16)  #: the values that `set_precision` accepts


class PerThread:
    """Descriptor of an attribute with one value per thread; a thread that has not set it gets the main thread's value.

    default: the initial value in the main thread.
    """

    def __init__(self, default: Any) -> None:
        self._main = default
        self._own = threading.local()
        self._differs = False  # whether any other thread has set it: `_own` is searched only then

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(self._own, "value", self._main) if self._differs else self._main

    def __set__(self, instance: object, value: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._main = value
            vars(self._own).pop("value", None)  # in a forked child, the thread that forked is the main thread
        else:
            self._own.value = value
            self._differs = True


class Settings:
    """The settings of each thread; `settings` below is the only instance."""

    engine = PerThread(NUMPY)  #: the Engine that runs passes
    variants = PerThread("DEFAULT")  #: the argument of `set_engine`, for nets that are built from now on
    precision = PerThread("DEFAULT")  #: the argument of `set_precision`, for nets that are built from now on
    device = PerThread(0)  #: number of the CUDA device
    solver_rank = PerThread(0)  #: index of this thread's solver in distributed training; data layers read its share
    solver_count = PerThread(1)  #: number of solvers in distributed training
    group = PerThread(
        None
    )  #: the `minicaffe.parallel.Group` that this thread's solvers train in; None: they train alone
    sync_bn = PerThread(False)  #: whether BatchNorm's statistics are those of all ranks' batches


settings = Settings()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore mode, device, engine and precision of this thread, and the number of threads, at the block's end."""
    engine, variants, device, precision = settings.engine, settings.variants, settings.device, settings.precision
    threads = THREADS.wanted
    with blas_restored():
        try:
            yield
        finally:
            if THREADS.wanted != threads:
                set_threads(threads)
            settings.engine, settings.variants, settings.precision = engine, variants, precision
            set_device(device)


def set_mode_cpu() -> None:
    """Run layers on the CPU from now on, in this thread."""
    settings.engine = runner("CPU")


def set_mode_gpu() -> None:
    """Run layers on the GPU from now on, in this thread; layers without GPU code run on the CPU.

    Raises `DeviceError` if PyCUDA or a CUDA device is missing.
    """
    engine = runner("GPU")
    engine.start(settings.device)
    settings.engine = engine


def set_device(device_id: int) -> None:
    """Choose the CUDA device for GPU mode, by number, in this thread (default: 0).

    Raises `DeviceError` in GPU mode if the device cannot be used.
    """
    settings.device = int(device_id)
    settings.engine.start(settings.device)


def engine_names() -> list[str]:
    """Return the values that `set_engine` accepts."""
    return ["DEFAULT", "CAFFE", *(engine.name for engine in variant_engines())]


def set_engine(engine: str) -> None:
    """Choose the engine of the nets that this thread builds from now on; it overrides the prototxts' `engine` fields.

    engine: "DEFAULT" (the `engine` field, or else the fastest engine installed), "CAFFE" (minicaffe's own numpy and
        CUDA code), or the name of an engine: "ONEDNN", "CUDNN", "TENSOR" (with `minicaffe.cuda.set_math`).
    Raises UsageError for any other value.
    """
    if engine not in engine_names():
        raise UsageError(f"set_engine: expected one of {', '.join(engine_names())}, got {engine!r}")
    settings.variants = engine


def set_precision(precision: str) -> None:
    """Choose the precision of the nets that this thread builds from now on; it overrides the prototxts' forward types.

    precision: "DEFAULT" (bf16 where `forward_type` or `default_forward_type` is FLOAT16, else float32), "float32", or
        "bf16": on the CPU, layers of oneDNN multiply in bfloat16 and sum in float32, if the processor has instructions
        for it; parameters, their updates and losses are float32.
    Raises UsageError for any other value.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"set_precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    settings.precision = precision


def set_threads(count: int | None) -> None:
    """Compute with `count` threads of the CPU from now on, in every Python thread: oneDNN, and numpy's BLAS.

    count: at least 1; None: the default, which is the environment variable OMP_NUM_THREADS, or else the number of cores
        that this process may use: those of its affinity, and no more than its cgroup's CPU quota.
    Call it before nets are built: oneDNN's primitives split their work for the number of threads at their creation.
    Raises UsageError for a number below 1.
    """
    if count is not None and count < 1:
        raise UsageError(f"set_threads: expected a number above 0, got {count}")
    THREADS.wanted = count
    for engine in engines():
        engine.set_threads(THREADS.count())
