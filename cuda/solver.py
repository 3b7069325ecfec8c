"""The update of all parameters of a net in one launch, for each of the solvers' rules (solver.cu)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.blob import Blob
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer

_CHUNK = 4096  # as in solver.cu
_THREADS = 256

# struct Tensor of solver.cu
_TENSOR = np.dtype(
    [("data", "u8"), ("diff", "u8"), ("first", "u8"), ("second", "u8"), ("count", "i8"), ("lr_mult", "f8"), ("decay", "f8")]
)


class FusedUpdate:
    """Scales and decays the diffs of all parameters, applies a rule, and subtracts.

    rule: "SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta" or "Adam".
    params, history: blobs, the history once or twice as many as the parameters; all of one dtype.
    lr_mults, decays: of each parameter; a decay is weight_decay times decay_mult.
    momentum, second, delta: of the rule; `second` is momentum2 or rms_decay.
    l1: whether decay is lambda * sign(w) in place of lambda * w.
    clip: the largest L2 norm of all diffs together; negative for any.

    The rate lives in device memory: `set_rate` before each call, and a captured step may be replayed.
    """

    def __init__(
        self,
        rule: str,
        params: Sequence[Blob],
        history: Sequence[Blob],
        lr_mults: Sequence[float],
        decays: Sequence[float],
        *,
        momentum: float,
        second: float,
        delta: float,
        l1: bool,
        clip: float,
    ) -> None:
        self.rule, self.params, self.history = rule.lower(), params, history
        self.mults = list(zip(lr_mults, decays))
        self.settings = (momentum, second, delta, l1)
        self.clip = clip
        self.dtype = params[0].dtype if params else np.dtype(np.float32)
        chunks = [(i, c) for i, p in enumerate(params) for c in range(-(-p.count // _CHUNK))]
        self.blocks = len(chunks)
        self._chunks = DeviceBuffer(8 * max(self.blocks, 1))
        self._chunks.from_host(np.array(chunks, np.int32))
        self._tensors = DeviceBuffer(_TENSOR.itemsize * max(len(params), 1))
        self._partial = DeviceBuffer(self.dtype.itemsize * max(self.blocks, 1))
        self._knobs = DeviceBuffer(4 * self.dtype.itemsize)
        self._table: np.ndarray | None = None

    def set_rate(self, rate: float, correction: float = 1.0, scale: float = 1.0) -> None:
        """The learning rate, Adam's correction and the scale of the diffs (1 / iter_size) of the coming update."""
        self._kernel("set_knobs").launch((1, 1), 1, rate, correction, scale, self._knobs)

    def __call__(self) -> None:
        """Update all parameters."""
        if not self.blocks:
            return
        self._point()
        if self.clip >= 0:
            self._kernel("sum_squares").launch((self.blocks, 1), _THREADS, self._tensors, self._chunks, self._partial)
            self._kernel("clip_scale").launch((1, 1), _THREADS, self.blocks, self.clip, self._partial, self._knobs)
        update = self._kernel(self.rule)
        update.launch((self.blocks, 1), _THREADS, self._tensors, self._chunks, self._knobs, *self.settings)

    def norm(self) -> float:
        """The L2 norm of all diffs at the last update that could clip; waits for the device."""
        return float(self._knobs.to_host(np.empty(4, self.dtype))[3])

    def _point(self) -> None:
        """Tell the device where the parameters lie; copied only when something has moved."""
        table, count = np.zeros(len(self.params), _TENSOR), len(self.params)
        for i, (blob, (lr_mult, decay)) in enumerate(zip(self.params, self.mults)):
            past = [self.history[k].mutable_gpu_data() for k in range(i, len(self.history), count)]
            table[i] = (blob.mutable_gpu_data(), blob.mutable_gpu_diff(), past[0], [*past, 0][1], blob.count, lr_mult, decay)
        if self._table is None or (table != self._table).any():
            self._tensors.from_host(table.view(np.uint8))
            self._table = table

    def _kernel(self, name: str):
        return kernel("solver", name, self.dtype)
