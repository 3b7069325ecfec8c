"""Reduction: the sum or mean over the last axes."""

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.proto.caffe_pb2 import ReductionParameter


@register("Reduction")
class Reduction(Layer):
    """SUM: y = coeff * sum of x.  ASUM: coeff * sum of |x|.  SUMSQ: coeff * sum of x^2.  MEAN: coeff * mean of x.

    Bottom: any shape.  Top: its axes before `axis`; with axis 0 one number, which can be a loss.
    reduction_param: operation (SUM), axis (0), coeff (1).
    """

    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads: tuple[str, ...] = ("bottom",)

    @staticmethod
    def describe(layer_param):
        return ReductionParameter.ReductionOp.Name(layer_param.reduction_param.operation)

    def setup(self, bottom, top):
        param = self.layer_param.reduction_param
        self.operation, self.given_axis, self.coeff = param.operation, param.axis, param.coeff
        if self.operation in (ReductionParameter.SUM, ReductionParameter.MEAN):
            self.backward_reads = ()

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        return [shape[: canonical_axis(self.given_axis, len(shape))]]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.num = top[0].count
        self.length = bottom[0].count_range(canonical_axis(self.given_axis, bottom[0].num_axes))
        self.factor = self.coeff / max(self.length, 1) if self.operation == ReductionParameter.MEAN else self.coeff

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data().reshape(self.num, self.length), top[0].data.reshape(self.num)
        if self.operation == ReductionParameter.ASUM:
            np.abs(x).sum(axis=1, out=y)
        elif self.operation == ReductionParameter.SUMSQ:
            np.square(x).sum(axis=1, out=y)
        else:
            x.sum(axis=1, out=y)
        y *= self.factor

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x, dx = (array.reshape(self.num, self.length) for array in (bottom[0].read_data(), bottom[0].diff))
        dy = self.factor * top[0].read_diff().reshape(self.num, 1)
        if self.operation == ReductionParameter.ASUM:
            np.multiply(dy, np.sign(x), out=dx)
        elif self.operation == ReductionParameter.SUMSQ:
            np.multiply(2 * dy, x, out=dx)
        else:
            dx[...] = dy

    def forward_gpu(self, bottom, top):
        x, y = bottom[0].gpu_data(), top[0].mutable_gpu_data()
        if self.num > 1:
            threads = min(256, -(-max(self.length, 1) // 32) * 32)
            self.kernel("reduce").launch((self.num, 1), threads, self.length, self.operation, self.factor, x, y)
        elif self.operation == ReductionParameter.ASUM:
            ops.asum(self.length, x, self.dtype, out=y, alpha=self.factor)
        elif self.operation == ReductionParameter.SUMSQ:
            ops.dot(self.length, x, x, self.dtype, out=y, alpha=self.factor)
        else:
            ops.sum(self.length, x, self.dtype, out=y, alpha=self.factor)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            x, dy, dx = bottom[0].gpu_data(), top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("spread")(bottom[0].count, self.length, self.operation, self.factor, x, dy, dx)
