"""The engines of the GPU: CUDA, which runs the layers' own kernels, and engines with variants of some layer types.

CUDNN has convolutions by cuDNN, TENSOR layers for tensor cores, on channels-last arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.engine import Engine, Stopwatch, add_engine
from minicaffe.core.settings import BF16, FLOAT32
from minicaffe.cuda import context, cudnn, kernels, memory
from minicaffe.cuda.forward import CapturedForward
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

    def forward_pass(self, net: Any) -> CapturedForward:
        return CapturedForward(net)

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


class Tensor(Engine):
    """Engine with variants for tensor cores, which keep blobs in channels-last arrays; the default with `set_math`.

    Its layers compute in TF32 or bfloat16, by the setting at their creation; with "float32" they run CUDA's kernels.
    """

    name, mode, place, base = "TENSOR", "GPU", GPU, CUDA

    @property
    def default(self) -> bool:  # type: ignore[override]  # nothing sets it
        return context.allows_tf32()

    def reason(self) -> str:
        if sentence := context.reason_unavailable():
            return sentence
        if not context.has_tensor_cores():
            device = context.current()
            return (
                f"GPU {device.index} ({device.name}, {device.arch}) has no tensor cores for TF32 and bf16 (from sm_80)"
            )
        return "" if context.allows_tf32() else "the math mode is float32, neither tf32 nor bf16 (set_math, --math)"

    def takes(self, dtype: np.dtype) -> bool:
        return dtype == np.float32 and self.available()

    def precision(self, wanted: str) -> str:
        return BF16 if context.math() == BF16 else FLOAT32


TENSOR = add_engine(Tensor())
