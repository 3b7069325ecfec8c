"""The update of all parameters of a net in one launch, for each of the solvers' rules (solver.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer

CHUNK = 4096  # elements of a parameter to a block, as in solver.cu
_THREADS = 256

# struct Tensor of solver.cu
_POINTERS = ("data", "diff", "first", "second")
_TENSOR = np.dtype([(name, "u8") for name in _POINTERS] + [("count", "i8"), ("lr_mult", "f8"), ("decay", "f8")])


class FusedUpdate:
    """Scales and decays the diffs of all parameters, applies a rule, and subtracts.

    rule: "SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta" or "Adam".
    params, history: blobs, the history once or twice as many as the parameters; all of one dtype.
    lr_mults, decay_mults: of each parameter.
    param: the SolverParameter, for the rule's constants, decay, clipping and iter_size.

    The rate lives in device memory: `set_rate` before each `apply`, and a captured `apply` may be replayed.
    """

    def __init__(
        self,
        rule: str,
        params: Sequence[Blob],
        history: Sequence[Blob],
        lr_mults: Sequence[float],
        decay_mults: Sequence[float],
        param: Any,
    ) -> None:
        self.rule, self.params, self.history = rule.lower(), params, history
        self.mults = [(lr, param.weight_decay * decay) for lr, decay in zip(lr_mults, decay_mults)]
        second = param.rms_decay if rule == "RMSProp" else param.momentum2
        self.settings = (param.momentum, second, param.delta, param.regularization_type == "L1")
        self.clip, self.scale = param.clip_gradients, 1 / max(param.iter_size, 1)
        self.dtype = params[0].dtype if params else np.dtype(np.float32)
        chunks = [(i, c) for i, p in enumerate(params) for c in range(-(-p.count // CHUNK))]
        self.blocks = len(chunks)
        self._chunks = DeviceBuffer(8 * max(self.blocks, 1))
        self._chunks.from_host(np.array(chunks, np.int32))
        self._tensors = DeviceBuffer(_TENSOR.itemsize * max(len(params), 1))
        self._partial = DeviceBuffer(self.dtype.itemsize * max(self.blocks, 1))
        self._knobs = DeviceBuffer(3 * self.dtype.itemsize)
        self._table: np.ndarray | None = None
        self._kernel("set_scale").launch((1, 1), 1, self.scale, self._knobs)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the coming update, times Adam's correction."""
        self._kernel("set_rate").launch((1, 1), 1, rate, self._knobs)

    def apply(self) -> None:
        """Update all parameters; their diffs hold the update afterwards."""
        if not self.blocks:
            return
        self._point()
        if self.clip >= 0:
            self._launch("sum_squares", self._partial)
            limits = self.blocks, self.clip, self.scale
            self._kernel("clip_scale").launch((1, 1), _THREADS, *limits, self._partial, self._knobs)
        self._launch(self.rule, self._knobs, *self.settings)

    def clear(self) -> None:
        """Set the diffs of all parameters to zero."""
        if self.blocks:
            self._point()
            self._launch("clear_diffs")

    def norm(self) -> float:
        """The L2 norm of all diffs at the last update that could clip; waits for the device."""
        return float(self._knobs.to_host(np.empty(3, self.dtype))[2])

    def _point(self) -> None:
        """Tell the device where the parameters lie; copied only when something has moved."""
        table, count = np.zeros(len(self.params), _TENSOR), len(self.params)
        for i, (blob, (lr_mult, decay)) in enumerate(zip(self.params, self.mults)):
            past = [self.history[k].mutable_gpu_data() for k in range(i, len(self.history), count)]
            table[i] = (
                blob.mutable_gpu_data(),
                blob.mutable_gpu_diff(),
                past[0],
                [*past, 0][1],
                blob.count,
                lr_mult,
                decay,
            )
        if self._table is None or (table != self._table).any():
            self._tensors.from_host(table.view(np.uint8))
            self._table = table

    def _launch(self, name: str, *args: Any) -> None:
        """One block for each chunk of each parameter."""
        self._kernel(name).launch((self.blocks, 1), _THREADS, self._tensors, self._chunks, *args)

    def _kernel(self, name: str):
        return kernel("solver", name, self.dtype)
