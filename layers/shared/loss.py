"""What losses share: counts of bottoms and tops, the scalar top, labels, and what a sum of losses is divided by."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.proto.caffe_pb2 import LossParameter

LOG_THRESHOLD = 1e-20  #: probabilities are kept above it where a logarithm is taken


class LossLayer(Layer):
    """Base of losses: bottoms are the prediction and the label, the top is one number.

    The first top has loss_weight 1 unless the prototxt says otherwise, and may be left out of it.  In backward
    `top[0].diff` holds the loss weight.  No gradient goes to the label: where one is asked for, because the label comes
    from layers that learn, `backward` raises `LayerError`, as the original ends there.
    """

    exact_num_bottom: int | None = 2
    exact_num_top: int | None = 1
    auto_top_blobs = True
    wrong: DeviceBuffer | None = None  #: on the device: (1, label) once a kernel has met a label that is no class
    in_place = False
    backward_reads: tuple[str, ...] = ("bottom",)

    def default_loss_weight(self, top_index):
        return 1.0 if top_index == 0 else 0.0

    def allow_force_backward(self, bottom_index):
        return bottom_index != 1

    def top_shapes(self, bottom_shapes):
        prediction, label = bottom_shapes[:2]
        if prediction[:1] != label[:1]:
            raise self.error(f"bottoms 0 and 1 must agree in axis 0, got {prediction} and {label}")
        return [()]

    def refuse_gradient(self, propagate_down, index: int = 1, what: str = "label") -> None:
        """Raise when a gradient is asked for bottom `index`, by default the label."""
        if propagate_down[index]:
            down = " ".join(f"propagate_down: {str(i == 0).lower()}" for i in range(len(propagate_down)))
            raise self.error(
                f"there is no gradient with respect to the {what} (bottom {index}); if the {what} comes from layers "
                f"that learn, add {down}"
            )

    def batch_size(self, bottom) -> int:
        """N, at least 1: what a sum over the batch is divided by."""
        return max([1, *bottom[0].shape[:1]])

    def loss_weight(self, top) -> float:
        """The weight that the net has put into the top's diff."""
        return float(top[0].read_diff())

    def read_normalization(self, absent: int = LossParameter.VALID) -> int:
        """The mode of loss_param: `normalization`, else its older form `normalize`, else `absent`."""
        param = self.layer_param.loss_param
        if param.HasField("normalization"):
            return param.normalization
        if param.HasField("normalize"):
            return LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE
        return absent

    def normalizer(self, mode: int, outer: int, inner: int, valid: int) -> float:
        """What the sum of losses is divided by, never less than 1.

        FULL: all outer * inner positions; VALID: the `valid` ones, which are not ignored; BATCH_SIZE: outer; NONE: 1.
        """
        divisors = {
            LossParameter.FULL: outer * inner,
            LossParameter.VALID: valid,
            LossParameter.BATCH_SIZE: outer,
            LossParameter.NONE: 1,
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
        """Where a kernel puts (1, label) for a label that is none of `classes`; told when the loss is read."""
        if self.wrong is None:
            self.wrong = DeviceBuffer(2 * self.dtype.itemsize)
            self.wrong.zero()
        self.wrong_classes = classes
        return self.wrong.ptr

    def fixed_divisor(self, mode: int, outer: int, inner: int) -> float:
        """`normalizer` as far as it is known without looking at labels: 0 for VALID."""
        return 0.0 if mode == LossParameter.VALID else self.normalizer(mode, outer, inner, 0)

    def scaled_gpu(self, n: int, top, x: int, y: int, factor: float = 1.0, divisor: int = 0) -> None:
        """y = x * factor * loss weight / *divisor; a divisor of 0 (no pointer) is 1."""
        kernel("loss", "scaled", self.dtype)(n, top[0].gpu_diff(), divisor, factor, x, y)


class DeviceTerms:
    """On the device: one term for each position, whether it counts, and the quotient of both sums.

    divisor: device pointer of what the sum was divided by.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self._terms, self._counted, self._sums = (Blob(shape, dtype) for shape in ((), (), (3,)))
        self._dtype = dtype

    def pointers(self, n: int) -> tuple[int, int]:
        """Where the kernel puts n terms, and for each 1 or 0: whether it counts."""
        self._terms.reshape(n)
        self._counted.reshape(n)
        return self._terms.mutable_gpu_data(), self._counted.mutable_gpu_data()

    def finish(self, n: int, fixed: float, out: int) -> None:
        """*out = sum of terms / divisor: `fixed`, or when that is 0 the number of terms that count, at least 1."""
        sums, terms, counted = self._sums.mutable_gpu_data(), self._terms.gpu_data(), self._counted.gpu_data()
        if n <= 8192:  # one block is enough
            kernel("loss", "sum_and_finish", self._dtype).launch((1, 1), 256, n, fixed, terms, counted, sums, out)
            return
        ops.sum(n, terms, self._dtype, out=sums)
        if not fixed:
            ops.sum(n, counted, self._dtype, out=sums + self._dtype.itemsize)
        kernel("loss", "finish", self._dtype)(1, fixed, sums, out)

    @property
    def divisor(self) -> int:
        return self._sums.gpu_data() + 2 * self._dtype.itemsize


def ignored_label(param) -> int | None:
    """`ignore_label` of a LossParameter or AccuracyParameter, None when it is not given."""
    return param.ignore_label if param.HasField("ignore_label") else None


def class_labels(layer: Layer, labels: np.ndarray, classes: int, ignored: int | None = None):
    """Labels as int32, truncated as in C, and which of them count (None: all).

    A label outside 0 to classes - 1 that is not `ignored` raises `LayerError`.
    """
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int32)
    valid = None if ignored is None else whole != ignored
    wrong = ((whole < 0) | (whole >= classes)) if valid is None else ((whole < 0) | (whole >= classes)) & valid
    if wrong.any():
        raise bad_label(layer, labels[wrong][0], classes)
    return whole, valid


def bad_label(layer: Layer, label: float, classes: int):
    """The error for a label that is none of the classes."""
    return layer.error(f"label {label:g} is out of range: there are {classes} classes, 0 to {classes - 1}")
