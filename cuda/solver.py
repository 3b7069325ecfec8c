"""Update of all parameters of a net with one kernel launch, for the update rule of each solver (solver.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer

CHUNK = 2048  # elements of a parameter per block, as in solver.cu
_THREADS = 256

# struct Tensor of solver.cu
_POINTERS = ("data", "diff", "first", "second", "rate")
_TENSOR = np.dtype([(name, "u8") for name in _POINTERS] + [("count", "i8"), ("lr_mult", "f8"), ("decay", "f8")])


class _Knobs:
    """In device memory: the learning rate, the scale of the diffs, and the L2 norm of all diffs."""

    def __init__(self, dtype: np.dtype, scale: float) -> None:
        self.buffer, self._dtype = DeviceBuffer(3 * dtype.itemsize), dtype
        self.buffer.from_host(np.array([0, scale, 0], dtype))
        self._rate = 0.0

    def set_rate(self, rate: float) -> None:
        """Set the learning rate, if it has changed."""
        if rate != self._rate:
            kernel("solver", "set_rate", self._dtype).launch((1, 1), 1, rate, self.buffer)
            self._rate = rate


class FusedUpdate:
    """Clips, scales and regularises the diffs of all parameters, applies an update rule, and subtracts the updates.

    rule: "SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta" or "Adam".
    params: blobs of the parameters, all of one dtype.
    history: `SGDSolver.history`, one or two blobs per parameter.
    lr_mults, decay_mults: factors on learning rate and weight decay, one per parameter.
    param: the SolverParameter, for the rule's constants, weight decay, clipping, iter_size and LARC.

    The learning rate is in device memory: call `set_rate` before each `apply`, or before each replay of a captured one.
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
        self.larc = ((1 - param.momentum) * param.larc_eta, param.larc_policy == "clip") if param.larc else None
        self.dtype = params[0].dtype if params else np.dtype(np.float32)
        chunks = [(i, c) for i, p in enumerate(params) for c in range(-(-p.count // CHUNK))]
        self.blocks = len(chunks)
        self._chunks = DeviceBuffer(8 * max(self.blocks, 1))
        self._chunks.from_host(np.array(chunks, np.int32))
        self._tensors = DeviceBuffer(_TENSOR.itemsize * max(len(params), 1))
        self._partial = DeviceBuffer(2 * self.dtype.itemsize * max(self.blocks, 1))
        self._knobs = _Knobs(self.dtype, self.scale)
        if self.larc:
            self._rates = DeviceBuffer(self.dtype.itemsize * max(len(params), 1))
            self._first = DeviceBuffer(4 * (len(params) + 1))
            ends = np.cumsum([0, *(-(-p.count // CHUNK) for p in params)])
            self._first.from_host(ends.astype(np.int32))
        self._table: np.ndarray | None = None

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next update; for Adam, multiplied by the bias correction."""
        self._knobs.set_rate(rate)

    def apply(self) -> None:
        """Update all parameters; their diffs hold the updates afterwards."""
        if not self.blocks:
            return
        self._point()
        if self.clip >= 0:
            self._launch("clip", self.clip, self.scale, self._partial, ops.tickets(1), self._knobs.buffer)
        if self.larc:
            count, knobs = len(self.params), self._knobs.buffer
            self._launch("larc", self._first, count, *self.larc, self._partial, ops.tickets(1), knobs, self._rates)
        self._launch(self.rule, self._knobs.buffer, *self.settings)

    def clear(self) -> None:
        """Set the diffs of all parameters to zero."""
        if self.blocks:
            self._point()
            self._launch("clear_diffs")

    def norm(self) -> float:
        """Return the joint L2 norm of all diffs at the last update with `clip_gradients`; waits for the device."""
        return float(self._knobs.buffer.to_host(np.empty(3, self.dtype))[2])

    def _point(self) -> None:
        """Upload the table with the addresses of parameters, diffs and history, if it has changed."""
        table, count = np.zeros(len(self.params), _TENSOR), len(self.params)
        for i, (blob, (lr_mult, decay)) in enumerate(zip(self.params, self.mults)):
            past = [self.history[k].mutable_gpu_data() for k in range(i, len(self.history), count)]
            table[i] = (
                blob.mutable_gpu_data(),
                blob.mutable_gpu_diff(),
                past[0],
                [*past, 0][1],
                int(self._rates) + i * self.dtype.itemsize if self.larc else 0,
                blob.count,
                lr_mult,
                decay,
            )
        if self._table is None or (table != self._table).any():
            self._tensors.from_host(table.view(np.uint8))
            self._table = table

    def _launch(self, name: str, *args: Any) -> None:
        """Launch a kernel with one block per chunk of each parameter."""
        self._kernel(name).launch((self.blocks, 1), _THREADS, self._tensors, self._chunks, *args)

    def _kernel(self, name: str):
        return kernel("solver", name, self.dtype)
