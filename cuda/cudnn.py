"""Convolution by NVIDIA's cuDNN, through its frontend (`pip install 'minicaffe[cudnn]'`), for `engine: CUDNN`.

Where cuDNN has no plan, minicaffe's own kernels run. Plans whose sums differ from run to run are excluded, and so are
tensor cores unless `set_math("tf32")` allows them to round factors.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any

import numpy as np

from minicaffe.cuda import context, convolution, graph, ops
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.tables import Plans

log = logging.getLogger("minicaffe")

_KEPT = 64  # plans that a layer keeps
_PLANE = 2  # the number of spatial axes for which cuDNN is used


@functools.cache
def reason_unavailable() -> str:
    """Why cuDNN cannot be used, as a sentence; '' when it can."""
    try:
        import cudnn

        cudnn.backend_version()
    except Exception as error:  # the frontend loads libraries and raises exceptions of many types
        return f"cuDNN cannot be used: its frontend (pip install 'minicaffe[cudnn]') is not there ({_line(error)})"
    return ""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _handle() -> Any:
    """This thread's cuDNN handle for the current device, bound to the thread's stream."""
    import cudnn

    handles, thread = context.current().cache.setdefault("cudnn", {}), threading.get_ident()
    if thread not in handles:
        handles[thread] = cudnn.create_handle()
    cudnn.set_stream(handle=handles[thread], stream=int(context.stream().handle))
    return handles[thread]


class _Plan:
    """A built graph of one operation: its tensors, in the order of the call's pointers, and its workspace."""

    def __init__(self, operation: str, window: Any, inputs: dict[str, tuple], result: tuple) -> None:
        import cudnn

        single = cudnn.data_type.FLOAT
        self._graph = cudnn.pygraph(
            io_data_type=single, intermediate_data_type=single, compute_data_type=single, handle=_handle()
        )
        tensors = {
            name: self._graph.tensor(name=name, dim=list(shape), stride=_strides(shape), data_type=single)
            for name, shape in inputs.items()
        }
        sizes = dict(padding=list(window.pad), stride=list(window.stride), dilation=list(window.dilation))
        out = getattr(self._graph, operation)(**tensors, **sizes)
        out.set_output(True).set_dim(list(result)).set_stride(_strides(result))
        self._tensors = [*tensors.values(), out]
        self._graph.validate()
        self._graph.build_operation_graph()
        self._graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        notes = cudnn.numerical_note
        rounding = () if context.allows_tf32() else (notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS)
        self._graph.deselect_numeric_notes([notes.NONDETERMINISTIC, *rounding])
        self._graph.check_support()
        self._graph.build_plans()
        self._workspace = DeviceBuffer(max(int(self._graph.get_workspace_size()), 1))

    def __call__(self, *pointers: Any) -> None:
        places = {tensor: int(pointer) for tensor, pointer in zip(self._tensors, pointers, strict=True)}
        self._graph.execute(places, self._workspace.ptr, handle=_handle())


def _strides(shape: tuple[int, ...]) -> list[int]:
    return [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]


class CudnnCorrelation(convolution.CudaCorrelation):
    """`CudaCorrelation` whose three products are cuDNN's, over two spatial axes in float32."""

    def __init__(self, window: Any, group: int, dtype: np.dtype) -> None:
        super().__init__(window, group, dtype)
        self._window = window
        self._vendor: Plans[_Plan | None] = Plans(_KEPT)
        self._sum: DeviceBuffer | None = None

    def prepare(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
        super().prepare(x_shape, y_shape)
        self._x, self._y = tuple(x_shape), tuple(y_shape)
        self._w = (y_shape[1], x_shape[1] // self.group, *self._window.kernel)

    def moment_parts(self) -> tuple[int, int]:
        return 0, 0  # its products leave none

    def forward(self, x: int, w: int, y: int, bias: int = 0, slope: float | None = None, moments: int = 0) -> None:
        plan = self._plan("conv_fprop", {"image": self._x, "weight": self._w}, self._y)
        if plan is None or moments:
            return super().forward(x, w, y, bias, slope, moments)
        plan(x, w, y)
        self._finish(self._y, y, bias, slope)

    def data_gradient(self, dy: int, w: int, dx: int, bias: int = 0, *, mask: int = 0, mask_slope: float = 0.0) -> None:
        plan = self._plan("conv_dgrad", {"loss": self._y, "filter": self._w}, self._x)
        if plan is None or mask:
            return super().data_gradient(dy, w, dx, bias, mask=mask, mask_slope=mask_slope)
        plan(dy, w, dx)
        self._finish(self._x, dx, bias, None)

    def weight_gradient(self, x: int, dy: int, dw: int, db: int = 0) -> None:
        plan = self._plan("conv_wgrad", {"image": self._x, "loss": self._y}, self._w)
        if plan is None:
            return super().weight_gradient(x, dy, dw, db)
        if db:
            self.bias_gradient(dy, self._y, db)
        count = int(np.prod(self._w))
        if self._sum is None:
            self._sum = DeviceBuffer(count * self.dtype.itemsize)
        plan(x, dy, self._sum)
        ops.axpy(count, 1.0, self._sum, dw, self.dtype)

    def _finish(self, shape: tuple[int, ...], y: int, bias: int, slope: float | None) -> None:
        """Add the bias and apply the ReLU, in place, where there is one."""
        if bias or slope is not None:
            n, places = int(np.prod(shape)), int(np.prod(shape[2:]))
            self._kernel("finish")(n, shape[1], places, bias, slope is not None, slope or 0.0, y)

    def _plan(self, operation: str, inputs: dict[str, tuple], result: tuple) -> _Plan | None:
        """cuDNN's plan for the current shapes; None where it has none, or where there is nothing to compute."""
        key = (operation, self._x, self._y, context.allows_tf32())
        return self._vendor.get(key, lambda: self._make(operation, inputs, result))

    def _make(self, operation: str, inputs: dict[str, tuple], result: tuple) -> _Plan | None:
        graph.forbid("cuDNN makes a plan")
        if len(self._window.kernel) != _PLANE or self.dtype != np.float32 or 0 in (*self._x, *self._y):
            return None
        try:
            return _Plan(operation, self._window, inputs, result)
        except Exception as error:  # the frontend raises many types for what it does not support
            sentence = "engine CUDNN: minicaffe's own kernels do what cuDNN has no plan for, first %s of %s: %s"
            log.info(sentence, operation, inputs, _line(error), extra={"once": sentence})
            return None
