"""Eltwise: the sum, product or maximum of several bottoms, number by number."""

import numpy as np

from minicaffe.layer import Layer, register
from minicaffe.proto.caffe_pb2 import EltwiseParameter


@register("Eltwise")
class Eltwise(Layer):
    """SUM: y = sum of coeff_i * x_i.  PROD: y = product of x_i.  MAX: y = largest x_i.

    Bottoms: two or more of one shape.  Top: y, of that shape; not in place.
    eltwise_param: operation (SUM), coeff (SUM only: none, or one per bottom), stable_prod_grad (true: a product's
    gradient multiplies the other bottoms; false: it divides the top by the bottom, cheaper but undefined at 0).
    Where bottoms tie for the maximum, the gradient goes to the second of the first two, else to the first.
    """

    min_bottom = 2
    exact_num_top = 1
    forbids_in_place = True

    def setup(self, bottom, top):
        param = self.layer_param.eltwise_param
        self.operation, self.stable_prod_grad = param.operation, param.stable_prod_grad
        self.coeffs = list(param.coeff) or [1.0] * len(bottom)
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
            self.winner = np.where(xs[0] > xs[1], np.int32(0), np.int32(1))
            np.copyto(y, np.where(self.winner == 0, xs[0], xs[1]))
            for i, x in enumerate(xs[2:], 2):
                self.winner[x > y] = i
                np.copyto(y, x, where=x > y)

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

    def _others(self, i, y, bottom):
        """The product of all bottoms but the i-th."""
        if not self.stable_prod_grad:
            with np.errstate(divide="ignore", invalid="ignore"):
                return y / bottom[i].read_data()
        others = [b.read_data() for j, b in enumerate(bottom) if j != i]
        return np.multiply.reduce(others) if len(others) > 1 else others[0]
