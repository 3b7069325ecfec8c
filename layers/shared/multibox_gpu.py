"""MultiBoxLoss on the device: the losses and gradients of predictions whose targets the host has found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer, fill_bytes
from minicaffe.layers.shared.loss import DeviceTerms
from minicaffe.layers.shared.multibox import BoxTargets, ClassTargets
from minicaffe.proto.caffe_pb2 import MultiBoxLossParameter


class _Sent:
    """Arrays of targets on the device, numbers of one type each; None is a null pointer."""

    def __init__(self, arrays: Sequence[np.ndarray | None], dtypes: Sequence) -> None:
        self.counts = [0 if array is None else array.size for array in arrays]
        self._buffers = [None if a is None else _copy(a.astype(dtype)) for a, dtype in zip(arrays, dtypes)]

    @property
    def pointers(self) -> list[int]:
        return [0 if buffer is None else buffer.ptr for buffer in self._buffers]


def _copy(array: np.ndarray) -> DeviceBuffer:
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer


class DeviceLosses:
    """The kernels of MultiBoxLoss, and the targets that were sent to the device last.

    locations (N P L, 4) and scores (N P, K) are device pointers.
    """

    def __init__(self, param: MultiBoxLossParameter, dtype: np.dtype) -> None:
        self._dtype, self._terms = dtype, DeviceTerms(dtype)
        self._box_weight = param.loc_weight
        self._smooth = param.loc_loss_type == MultiBoxLossParameter.SMOOTH_L1
        self._scores_form = (param.num_classes, param.conf_loss_type == MultiBoxLossParameter.LOGISTIC)
        self._source: tuple[BoxTargets, ClassTargets] | None = None  # what was sent

    def class_losses(self, scores: int, labels: np.ndarray) -> np.ndarray:
        """Return on the host the loss of each row of scores for its label (N P,)."""
        sent, losses = _copy(labels.astype(np.int32)), DeviceBuffer(len(labels) * self._dtype.itemsize)
        self._kernel("class_losses")(len(labels), *self._scores_form, 0, sent.ptr, scores, losses.ptr)
        return losses.to_host(np.empty(len(labels), self._dtype))

    def box_losses(self, locations: int, targets: BoxTargets) -> np.ndarray:
        """Return on the host the loss (M,) of each match, without loc_weight."""
        sent, losses = self._sent_boxes(targets), DeviceBuffer(targets.codes.size * self._dtype.itemsize)
        self._kernel("box_losses")(targets.codes.size, self._smooth, *sent.pointers, 1.0, locations, losses.ptr)
        return losses.to_host(np.empty(targets.codes.shape, self._dtype)).sum(1)

    def send(self, boxes: BoxTargets, classes: ClassTargets) -> None:
        """Copy the targets to the device, for `total` and the gradients, if they are not there yet."""
        if self._source is None or self._source[0] is not boxes or self._source[1] is not classes:
            self._source = boxes, classes
            self._boxes, self._classes = self._sent_boxes(boxes), _Sent(classes, [np.int32] * 3)

    def total(self, locations: int, scores: int, counts: Sequence[bool], divisor: float, out: int) -> None:
        """Compute *out = (loc_weight * sum of box losses + sum of class losses) / divisor; counts: which of the two."""
        rows, labels, further = self._classes.pointers
        sizes = [n if counted else 0 for n, counted in zip(self._sizes(), (counts[0], counts[1], counts[1]))]
        terms, _ = self._terms.pointers(sum(sizes))
        of_boxes, of_rows, of_further = (terms + sum(sizes[:i]) * self._dtype.itemsize for i in range(3))
        self._kernel("box_losses")(sizes[0], self._smooth, *self._boxes.pointers, self._box_weight, locations, of_boxes)
        self._kernel("class_losses")(sizes[1], *self._scores_form, rows, labels, scores, of_rows)
        self._kernel("further_losses")(sizes[2], further, scores, of_further)
        self._terms.finish(sum(sizes), divisor, out)

    def box_gradient(self, locations: Blob, weight: int, scale: float) -> None:
        """Write the diff of the locations; weight: device pointer to the loss weight, scale: its factor."""
        x, dx = locations.gpu_data(), locations.mutable_gpu_diff()
        fill_bytes(dx, 0, locations.count * self._dtype.itemsize)
        factor = scale * self._box_weight
        self._kernel("box_gradient")(self._sizes()[0], self._smooth, *self._boxes.pointers, weight, factor, x, dx)

    def class_gradient(self, scores: Blob, weight: int, scale: float) -> None:
        """Write the diff of the scores; weight: device pointer to the loss weight, scale: its factor."""
        x, dx = scores.gpu_data(), scores.mutable_gpu_diff()
        fill_bytes(dx, 0, scores.count * self._dtype.itemsize)
        (rows, labels, further), (_, n, n_further) = self._classes.pointers, self._sizes()
        self._kernel("class_gradient")(n, *self._scores_form, rows, labels, weight, scale, x, dx)
        self._kernel("further_gradient")(n_further, further, weight, scale, dx)

    def _sizes(self) -> tuple[int, int, int]:
        """Return the numbers of coordinates, rows of scores and further classes that were sent."""
        return self._boxes.counts[1], self._classes.counts[0], self._classes.counts[2]

    def _sent_boxes(self, targets: BoxTargets) -> _Sent:
        return _Sent(targets, [np.int32, self._dtype, self._dtype, np.bool_])

    def _kernel(self, name: str):
        return kernel("extensions/multibox_loss", name, self._dtype)
