"""MergeCrop: joins a blob with the centre of a larger one, as U-Nets do."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.strided import StridedView
from minicaffe.proto.caffe_pb2 import MergeCropParameter


@register("MergeCrop")
class MergeCrop(Layer):
    """y = the channels of a, then those of the centre of b (STACK), or y = a + the centre of b (ADD)

    Bottoms: a (N, C, ...), b (N, D, ...), on no spatial axis shorter than a; the first place of b that is used is half
    of what it is longer, rounded down.  Top: (N, C + D, ...), or (N, C, ...) for ADD, of a's spatial size.

    mergecrop_param: operation STACK; forward true true: whether a and b count, one that does not as 0;
        backward true false: whether they get a gradient, which is 0 for one that does not.
    Source: Ronneberger, Fischer and Brox, U-Net, 2015; Tschopp, Efficient convolutional neural networks for pixelwise
    classification on heterogeneous hardware systems, 2015.
    """

    fork = "naibaf7's Caffe"
    family = "arrangement"
    param_field = "mergecrop_param"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return MergeCropParameter.MergeOp.Name(layer_param.mergecrop_param.operation)

    def setup(self, bottom, top):
        param = self.layer_param.mergecrop_param
        self.stack = param.operation == MergeCropParameter.STACK
        self.forwards = self._switches("forward", param.forward, (True, True))
        self.backwards = self._switches("backward", param.backward, (True, False))
        self.centre = Blob((), self.dtype)  # of b, on the device

    def _switches(self, name, given, absent):
        if len(given) > 2:
            raise self.error(f"{name} must be given at most twice, got {list(given)}")
        return (*given, *absent[len(given) :])

    def top_shapes(self, bottom_shapes):
        a, b = bottom_shapes
        if len(a) < 2 or len(a) != len(b) or a[0] != b[0] or any(m > n for m, n in zip(a[2:], b[2:])):
            raise self.error(
                f"bottom 1 must be (N, D, ...), nowhere smaller than bottom 0 (N, C, ...), got {b} and {a}"
            )
        if not self.stack and a[1] != b[1]:
            raise self.error(f"with ADD the bottoms must have equally many channels, got {a} and {b}")
        return [(a[0], a[1] + b[1] * self.stack, *a[2:])]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        a, b = bottom[0].shape, bottom[1].shape
        lengths, starts = (*b[:2], *a[2:]), (0, 0, *((n - m) // 2 for m, n in zip(a[2:], b[2:])))
        self.cut = tuple(slice(start, start + length) for start, length in zip(starts, lengths))
        self.view = StridedView(b, lengths, starts)
        self.centre.reshape(lengths)

    def _parts(self, y):
        """Return the views of y, or of its gradient, that belong to a and b."""
        return np.split(y, [y.shape[1] - self.centre.shape[1]], axis=1) if self.stack else (y, y)

    def forward_cpu(self, bottom, top):
        y = top[0].data
        y[...] = 0
        values = (bottom[0].read_data(), bottom[1].read_data()[self.cut])
        for part, x, counts in zip(self._parts(y), values, self.forwards):
            if counts:
                np.add(part, x, out=part)

    def backward_cpu(self, top, propagate_down, bottom):
        dy = self._parts(top[0].read_diff())
        for blob, part, wanted, learns in zip(bottom, dy, propagate_down, self.backwards):
            if wanted:
                blob.clear_diff()
                if learns:
                    blob.diff[self.cut if blob is bottom[1] else ...] = part

    def forward_gpu(self, bottom, top):
        self.view.take(bottom[1].gpu_data(), self.centre.mutable_gpu_data(), self.dtype)
        y, start = top[0].mutable_gpu_data(), 0
        ops.fill(top[0].count, 0, y, self.dtype)
        for blob, counts in zip((bottom[0], self.centre), self.forwards):
            if counts and self.stack:
                rows = blob.count_range(1), top[0].count_range(1), start
                kernel("concat", "put", self.dtype)(blob.count, *rows, blob.gpu_data(), y)
            elif counts:
                ops.axpy(blob.count, 1, blob.gpu_data(), y, self.dtype)
            start += blob.count_range(1)

    def backward_gpu(self, top, propagate_down, bottom):
        dy, start = top[0].gpu_diff(), 0
        for i, (blob, part) in enumerate(zip(bottom, (bottom[0], self.centre))):
            if propagate_down[i] and not self.backwards[i]:
                blob.clear_diff()
            elif propagate_down[i]:
                whole = (top[0] if self.stack else part).count_range(1)
                dx = part.mutable_gpu_diff()
                kernel("concat", "take", self.dtype)(part.count, part.count_range(1), whole, start, dy, dx)
                if blob is not part:
                    blob.clear_diff()
                    self.view.put(dx, blob.mutable_gpu_diff(), self.dtype)
            start += part.count_range(1) if self.stack else 0
