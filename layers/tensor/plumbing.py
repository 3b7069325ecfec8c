"""Eltwise sums, Split, and Concat of channels, on channels-last arrays."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.cuda import channels_last
from minicaffe.layers.concat import Concat
from minicaffe.layers.eltwise import Eltwise
from minicaffe.layers.split import Split
from minicaffe.layers.tensor.base import TensorLayer
from minicaffe.proto.caffe_pb2 import EltwiseParameter


@register("Eltwise", engine="TENSOR")
class TensorEltwise(TensorLayer, Eltwise):
    __doc__ = Eltwise.__doc__

    def expressible(self, bottom, top):
        return self.operation == EltwiseParameter.SUM

    def forward_tensor(self, bottom, top):
        self.sum(bottom, top)

    def sum(self, bottom, top, slope: float | None = None) -> None:
        """Compute the sum; with a slope, the ReLU behind it, too."""
        layout, xs, y = self.layout(top[0]), [self.data(blob) for blob in bottom], self.mutable_data(top[0])
        first, alpha = xs[0], self.coeffs[0]
        for i, (x, beta) in enumerate(zip(xs[1:], self.coeffs[1:], strict=True), 2):
            relu = slope if i == len(xs) else None
            layout.kernel("sum")(layout.size, alpha, first, beta, x, relu is not None, relu or 0.0, y)
            first, alpha = y, 1.0

    def backward_tensor(self, top, propagate_down, bottom):
        for blob, coeff, wanted in zip(bottom, self.coeffs, propagate_down, strict=True):
            layout = self.layout(blob)
            if wanted and coeff == 1:
                channels_last.lend(top[0].diff_memory, blob.diff_memory, layout)
            elif wanted:
                dy = self.diff(top[0])
                layout.kernel("multiply")(layout.size, coeff, dy, self.mutable_diff(blob))


@register("Split", engine="TENSOR")
class TensorSplit(TensorLayer, Split):
    __doc__ = Split.__doc__

    def forward_tensor(self, bottom, top):
        pass  # the data are shared

    def backward_tensor(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        layout = self.layout(bottom[0])
        if len(top) == 1:
            return channels_last.lend(top[0].diff_memory, bottom[0].diff_memory, layout)
        first, *others = [self.diff(blob) for blob in top]
        dx = self.mutable_diff(bottom[0])
        for other in others:
            layout.kernel("sum")(layout.size, 1.0, first, 1.0, other, False, 0.0, dx)
            first = dx


@register("Concat", engine="TENSOR")
class TensorConcat(TensorLayer, Concat):
    __doc__ = Concat.__doc__

    def expressible(self, bottom, top):
        whole = all(blob.shape[1] % channels_last.VECTOR == 0 for blob in bottom[:-1])
        return self.axis == 1 and len(bottom) > 1 and whole

    def forward_tensor(self, bottom, top):
        whole, y, first = self.layout(top[0]), self.mutable_data(top[0]), 0
        for blob in bottom:
            layout = self.layout(blob)
            layout.kernel("put")(layout.size, layout.vectors, whole.vectors, first, self.data(blob), y)
            first += layout.vectors

    def backward_tensor(self, top, propagate_down, bottom):
        whole, dy, first = self.layout(top[0]), self.diff(top[0]), 0
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            layout = self.layout(blob)
            if wanted:
                layout.kernel("take")(layout.size, layout.vectors, whole.vectors, first, dy, self.mutable_diff(blob))
            first += layout.vectors
