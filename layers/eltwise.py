"""Eltwise: the elementwise sum, product or maximum of several bottoms."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.proto.caffe_pb2 import EltwiseParameter


@register("Eltwise")
class Eltwise(Layer):
    """SUM: y = sum of coeff_i * x_i.  PROD: y = product of x_i.  MAX: y = largest x_i.

    Bottoms: two or more of one shape.  Top: y, of that shape; not in place.
    eltwise_param: operation (SUM), coeff (SUM only: none, or one for each bottom), stable_prod_grad (true: a gradient
    of PROD multiplies the other bottoms; false: it divides the top by the bottom, faster but undefined at 0).
    MAX passes the gradient to the bottom with the largest number.  Of equal numbers that of the earlier bottom counts,
    but bottom 1 comes before bottom 0.
    """

    family = "arrangement"
    keeps_coordinates = True
    min_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads: tuple[str, ...] = ("bottom", "top")

    @staticmethod
    def describe(layer_param):
        return EltwiseParameter.EltwiseOp.Name(layer_param.eltwise_param.operation)

    def setup(self, bottom, top):
        param = self.layer_param.eltwise_param
        self.operation, self.stable_prod_grad = param.operation, param.stable_prod_grad
        self.coeffs = list(param.coeff) or [1.0] * len(bottom)
        if self.operation != EltwiseParameter.PROD:
            self.backward_reads = ()
        elif self.stable_prod_grad:
            self.backward_reads = ("bottom",)
        self.winner = self.winner_gpu = None  # of MAX: the index of the bottom that each number is from
        if len(self.coeffs) != len(bottom):
            raise self.error(f"coeff must be given once per bottom ({len(bottom)}), got {len(self.coeffs)}")
        if param.coeff and self.operation == EltwiseParameter.PROD:
            raise self.error("coeff goes with operation SUM, not with PROD")

    def top_shapes(self, bottom_shapes):
        for i, shape in enumerate(bottom_shapes):
            if shape != bottom_shapes[0]:
                raise self.error(f"bottom {i} must have the shape of bottom 0, {bottom_shapes[0]}, got {shape}")
        return bottom_shapes[:1]

    def forward_cpu(self, bottom, top):
        xs, y = [b.read_data() for b in bottom], top[0].data
        if self.operation == EltwiseParameter.SUM:
            np.multiply(xs[0], self.coeffs[0], out=y)
            for x, coeff in zip(xs[1:], self.coeffs[1:]):
                y += x if coeff == 1 else coeff * x
        elif self.operation == EltwiseParameter.PROD:
            np.multiply(xs[0], xs[1], out=y)
            for x in xs[2:]:
                y *= x
        else:
            self.winner = np.logical_not(xs[0] > xs[1]).astype(np.int32)
            np.maximum(xs[0], xs[1], out=y)
            for i, x in enumerate(xs[2:], 2):
                np.maximum(self.winner, i * (x > y).astype(np.int32), out=self.winner)
                np.maximum(y, x, out=y)

    def backward_cpu(self, top, propagate_down, bottom):
        y, dy = top[0].read_data(), top[0].read_diff()
        for i, wanted in enumerate(propagate_down):
            if not wanted:
                continue
            dx = bottom[i].diff
            if self.operation == EltwiseParameter.SUM:
                np.multiply(dy, self.coeffs[i], out=dx)
            elif self.operation == EltwiseParameter.PROD:
                np.multiply(dy, self._others(i, y, bottom), out=dx)
            else:
                np.multiply(dy, self.winner == i, out=dx)

    def forward_gpu(self, bottom, top):
        n, xs, y = top[0].count, [b.gpu_data() for b in bottom], top[0].mutable_gpu_data()
        if self.operation == EltwiseParameter.SUM:
            self.kernel("sum").packs(n, self.coeffs[0], xs[0], self.coeffs[1], xs[1], False, 0.0, y)
            for x, coeff in zip(xs[2:], self.coeffs[2:]):
                ops.axpy(n, coeff, x, y, self.dtype)
        elif self.operation == EltwiseParameter.PROD:
            ops.mul(n, xs[0], xs[1], y, self.dtype)
            for x in xs[2:]:
                ops.mul(n, x, y, y, self.dtype)
        else:
            if self.winner_gpu is None or self.winner_gpu.nbytes < 4 * n:
                self.winner_gpu = DeviceBuffer(4 * n)
            self.kernel("larger")(n, xs[0], xs[1], y, self.winner_gpu)
            for i, x in enumerate(xs[2:], 2):
                self.kernel("larger_than_so_far")(n, i, x, y, self.winner_gpu)

    def backward_gpu(self, top, propagate_down, bottom):
        n, y, dy = top[0].count, top[0].gpu_data(), top[0].gpu_diff()
        if self.operation == EltwiseParameter.SUM:
            return self.sum_gradients_gpu(top[0], (dy, 0), propagate_down, bottom)
        for i, wanted in enumerate(propagate_down):
            if not wanted:
                continue
            dx = bottom[i].mutable_gpu_diff()
            if self.operation == EltwiseParameter.MAX:
                self.kernel("to_winner")(n, i, self.winner_gpu, dy, dx)
            elif self.stable_prod_grad:
                others = [b.gpu_data() for j, b in enumerate(bottom) if j != i]
                for factor, x in zip((dy, *[dx] * (len(others) - 1)), others):
                    ops.mul(n, factor, x, dx, self.dtype)
            else:
                self.kernel("divided")(n, dy, y, bottom[i].gpu_data(), dx)

    def sum_gradients_gpu(self, top, dys, propagate_down, bottom, relu=None, through=0):
        """Compute the gradients of SUM, of two bottoms with a launch.

        dys: addresses of two gradients of the top that are added, the second may be 0.  relu: a ReLU in place on the
        top, or None.  through: the address that gets the top's gradient before the ReLU, or 0.
        """
        rectified = (relu is not None, relu.negative_slope if relu else 0.0)
        source = (*dys, top.gpu_data() if relu else 0, *rectified)
        dxs = [b.mutable_gpu_diff() if wanted else 0 for b, wanted in zip(bottom, propagate_down)]
        for i in range(0, len(dxs), 2):
            (alpha, beta), targets = [*self.coeffs[i : i + 2], 0.0][:2], [*dxs[i : i + 2], 0][:2]
            if through or any(targets):
                self.kernel("sum_gradients").packs(top.count, *source, alpha, beta, through, *targets)

    def _others(self, i, y, bottom):
        """Return the product of all bottoms except the i-th."""
        if not self.stable_prod_grad:
            with np.errstate(divide="ignore", invalid="ignore"):
                return y / bottom[i].read_data()
        others = [b.read_data() for j, b in enumerate(bottom) if j != i]
        return np.multiply.reduce(others) if len(others) > 1 else others[0]
