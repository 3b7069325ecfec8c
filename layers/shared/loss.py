"""The base of losses: counts of bottoms and tops, the scalar top, labels, normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.shared.views import truncated
from minicaffe.proto.caffe_pb2 import LossParameter

_TERMS = 2048  # terms that a block adds
_MOST_BLOCKS = 128
LOG_THRESHOLD = 1e-20  #: least argument of a logarithm of a probability


class LossLayer(Layer):
    """Base of losses: bottoms are the prediction and the label, the top is one number.

    The first top has loss_weight 1 unless the prototxt gives another, and may be left out of the prototxt.  In backward
    `top[0].diff` is the loss weight.  The label gets no gradient; if it is computed from learned parameters, `backward`
    raises `LayerError` (the original aborts).
    """

    family = "loss"
    exact_num_bottom: int | None = 2
    exact_num_top: int | None = 1
    auto_top_blobs = True
    wrong: DeviceBuffer | None = None  #: on the device: (number, label) of labels outside the classes
    no_gradient: tuple[int, ...] = (1,)
    in_place = False
    backward_reads: tuple[str, ...] = ("bottom",)

    def default_loss_weight(self, top_index):
        return 1.0 if top_index == 0 else 0.0

    def top_shapes(self, bottom_shapes):
        prediction, label = bottom_shapes[:2]
        self.samples(prediction)
        if prediction[:1] != label[:1]:
            raise self.error(f"bottoms 0 and 1 must agree in axis 0, got {prediction} and {label}")
        return [()]

    def samples(self, shape) -> int:
        """Return the length of axis 0 of bottom 0; LayerError for a scalar."""
        if not shape:
            raise self.error("bottom 0 must be (N, ...), got a scalar, a blob without axes")
        return shape[0]

    def refuse_gradient(self, propagate_down, index: int = 1, what: str = "label") -> None:
        """Raise LayerError if bottom `index`, by default the label, should get a gradient."""
        if propagate_down[index]:
            down = " ".join(f"propagate_down: {str(i == 0).lower()}" for i in range(len(propagate_down)))
            raise self.error(
                f"there is no gradient with respect to the {what} (bottom {index}); if the {what} comes from layers "
                f"that learn, add {down}"
            )

    def batch_size(self, bottom) -> int:
        """Return N, at least 1, the divisor of a sum over the batch."""
        return max([1, *bottom[0].shape[:1]])

    def loss_weight(self, top) -> float:
        """Return the loss weight, which the net has written to the top's diff."""
        return float(top[0].read_diff())

    def read_normalization(self, absent: int = LossParameter.VALID) -> int:
        """Return the mode of loss_param: `normalization`, else from the older `normalize`, else `absent`."""
        param = self.layer_param.loss_param
        if param.HasField("normalization"):
            return param.normalization
        if param.HasField("normalize"):
            return LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE
        return absent

    def normalizer(self, mode: int, outer: int, inner: int, valid: int) -> float:
        """Return the divisor of the sum of losses, at least 1.

        FULL: all outer * inner positions; VALID: the `valid` ones, those not ignored; BATCH_SIZE: outer; NONE: 1;
        PRE_FIXED: pre_fixed_normalizer of loss_param.
        """
        divisors = {
            LossParameter.FULL: outer * inner,
            LossParameter.VALID: valid,
            LossParameter.BATCH_SIZE: outer,
            LossParameter.NONE: 1,
            LossParameter.PRE_FIXED: self.layer_param.loss_param.pre_fixed_normalizer,
        }
        return max(1.0, float(divisors[mode]))

    # -- on the device ---------------------------------------------------------------------------------------------

    def loss(self, top):
        value = super().loss(top)
        if self.wrong is not None:
            seen, label = self.wrong.to_host(np.empty(2, self.dtype))
            if seen:
                self.wrong.zero()
                raise bad_label(self, label, self.wrong_classes)
        return value

    def wrong_label_gpu(self, classes: int) -> int:
        """Return the pointer for (number, label) of labels outside the classes; checked when the loss is read back."""
        if self.wrong is None:
            self.wrong = DeviceBuffer(2 * self.dtype.itemsize)
            self.wrong.zero()
        self.wrong_classes = classes
        return self.wrong.ptr

    def fixed_divisor(self, mode: int, outer: int, inner: int) -> float:
        """Return `normalizer` if it does not depend on labels; 0 for VALID."""
        return 0.0 if mode == LossParameter.VALID else self.normalizer(mode, outer, inner, 0)

    def scaled_gpu(self, n: int, top, x: int, y: int, factor: float = 1.0, divisor: int = 0) -> None:
        """Compute y = x * factor * loss weight / *divisor on the device; divisor 0 (no pointer) means 1."""
        kernel("loss", "scaled", self.dtype).packs(n, top[0].gpu_diff(), divisor, factor, x, y)


class DeviceTerms:
    """The sum of one term for each position, divided by how many count, on the device.

    divisor: device pointer to the divisor of the last sum.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self._terms, self._counted, self._divisor = (Blob((), dtype) for _ in range(3))
        self._dtype = dtype

    def pointers(self, n: int) -> tuple[int, int]:
        """Return device pointers for n terms and for n numbers, 1 where a term counts, else 0."""
        self._terms.reshape(n)
        self._counted.reshape(n)
        return self._terms.mutable_gpu_data(), self._counted.mutable_gpu_data()

    def finish(self, n: int, fixed: float, out: int) -> None:
        """Compute *out = sum of terms / divisor: `fixed`, or if that is 0 the number of counted terms, at least 1."""
        arguments = n, self._terms.gpu_data(), self._counted.gpu_data()
        self.finish_by(kernel("loss", "total", self._dtype), self.grid(n), 256, arguments, fixed, out)

    @staticmethod
    def grid(n: int) -> tuple[int, int]:
        """Return the grid of a kernel that adds n terms, with 256 threads in a block."""
        return max(1, min(-(-n // _TERMS), _MOST_BLOCKS)), 1

    def finish_by(
        self, kernel: Any, grid: tuple[int, int], threads: int, arguments: tuple, fixed: float, out: int
    ) -> None:
        """Launch a kernel that computes terms and ends with `finish_loss` (loss.cuh); `fixed`, `out` as of `finish`."""
        with ops.scratch(2 * grid[0] * self._dtype.itemsize) as partial:
            ends = fixed, partial, ops.tickets(1), self._divisor.mutable_gpu_data(), out
            kernel.launch(grid, threads, *arguments, *ends)

    @property
    def divisor(self) -> int:
        return self._divisor.gpu_data()


def ignored_label(param) -> int | None:
    """Return `ignore_label` of a LossParameter or AccuracyParameter, None if it is not given."""
    return param.ignore_label if param.HasField("ignore_label") else None


def in_top(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Return, for each label, whether fewer than k other scores are at or above its own; False if its own is nan.

    scores: (N, C, ...).  labels: (N, ...), integers from 0 to C - 1.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    return (np.count_nonzero(scores >= own, axis=1) <= k) & ~np.isnan(own[:, 0])


def class_labels(layer: Layer, labels: np.ndarray, classes: int, ignored: int | None = None):
    """Return labels as int32, truncated as in C, and which of them count (None: all).

    A label outside 0 to classes - 1 that is not `ignored` raises `LayerError`.
    """
    whole = truncated(labels)
    valid = None if ignored is None else whole != ignored
    wrong = ((whole < 0) | (whole >= classes)) if valid is None else ((whole < 0) | (whole >= classes)) & valid
    if wrong.any():
        raise bad_label(layer, labels[wrong][0], classes)
    return whole, valid


def bad_label(layer: Layer, label: float, classes: int):
    """Return the error for a label outside the classes."""
    return layer.error(f"label {label:g} is out of range: there are {classes} classes, 0 to {classes - 1}")
