"""The CUDA engine, which runs the layers' kernels, and cuDNN, which has variants of a few types."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.engine import Engine, Stopwatch, add_engine
from minicaffe.cuda import context, cudnn, kernels, memory
from minicaffe.cuda.memory import GPU
from minicaffe.cuda.step import CudaStep


class Cuda(Engine):
    """Runs the passes of the GPU.

    runtime: the device in use; sources: the texts of kernels.  What depends on the device is in its `cache`.
    """

    name, mode, place = "CUDA", "GPU", GPU
    runtime, sources = context.RUNTIME, kernels.SOURCES
    settles_each_layer = False

    def reason(self) -> str:
        return context.reason_unavailable()

    def start(self, device: int) -> None:
        context.require(device)

    def forward(self, layer, bottom, top) -> None:
        layer.forward_gpu(bottom, top)

    def backward(self, layer, top, propagate_down, bottom) -> None:
        layer.backward_gpu(top, propagate_down, bottom)

    def step(self, solver: Any) -> CudaStep:
        return CudaStep(solver)

    def kernel(self, stem: str, name: str, dtype: np.dtype) -> Any:
        return kernels.kernel(stem, name, dtype)

    def synchronize(self) -> None:
        context.synchronize()

    def stopwatch(self) -> Stopwatch:
        return _DeviceStopwatch()

    def memory_usage(self) -> dict[str, int]:
        return memory.usage()


class _DeviceStopwatch(Stopwatch):
    """Measures on the device, by pairs of events on the computing stream that are read at the end."""

    def __init__(self) -> None:
        self._pairs: list[tuple] = []

    def start(self) -> None:
        self._first = context.event()
        self._first.record(context.stream())

    def stop(self, times: list[float], k: int) -> None:
        last = context.event()
        last.record(context.stream())
        self._pairs.append((self._first, last, times, k))

    def finish(self) -> None:
        context.synchronize()
        for first, last, times, k in self._pairs:
            times[k] += last.time_since(first)
        self._pairs.clear()


CUDA = add_engine(Cuda())


class Cudnn(Engine):
    """Takes part in the passes of the GPU; what cuDNN cannot do, the layers' own kernels do."""

    name, mode, place, base = "CUDNN", "GPU", GPU, CUDA

    def reason(self) -> str:
        return cudnn.reason_unavailable()


CUDNN = add_engine(Cudnn())
