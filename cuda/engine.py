"""The engines of the GPU: CUDA, which runs the layers' own kernels, and CUDNN, with variants of a few layer types."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.engine import Engine, Stopwatch, add_engine
from minicaffe.cuda import context, cudnn, kernels, memory
from minicaffe.cuda.memory import GPU
from minicaffe.cuda.step import CudaStep


class Cuda(Engine):
    """Engine that runs the passes in GPU mode with the layers' own kernels.

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
    """Measures time on the device with pairs of CUDA events on the compute stream, which are read by `finish`."""

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
    """Engine with cuDNN variants of layers for the passes in GPU mode; other layers use their own kernels."""

    name, mode, place, base = "CUDNN", "GPU", GPU, CUDA

    def reason(self) -> str:
        return cudnn.reason_unavailable()

    def takes(self, dtype: np.dtype) -> bool:
        return self.available()


CUDNN = add_engine(Cudnn())
