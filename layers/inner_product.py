"""InnerProduct: the fully connected layer."""

from __future__ import annotations

import math
from typing import Any

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops


@register("InnerProduct")
class InnerProduct(Layer):
    """y = x w^T + b, with x flattened from `axis` on.

    bottom: (M..., K...): the axes before `axis` count samples, the others make vectors of K numbers
    top: (M..., num_output)
    blobs: weights (num_output, K), or (K, num_output) with transpose; bias (num_output)

    inner_product_param: num_output, bias_term true, weight_filler and bias_filler constant 0, axis 1, transpose false.
    """

    family = "weights"
    exact_num_bottom = 1
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)
    #: computes the products on the device by `gemm`
    products: Any = ops

    @staticmethod
    def describe(layer_param):
        return str(layer_param.inner_product_param.num_output)

    def setup(self, bottom, top):
        param = self.layer_param.inner_product_param
        self.num_output, self.bias_term, self.transpose = param.num_output, param.bias_term, param.transpose
        if self.num_output < 1:
            raise self.error("num_output must be at least 1")
        self.axis = bottom[0].canonical_axis(param.axis)
        self.inputs = bottom[0].count_range(self.axis)
        if not self.inputs:
            raise self.error(f"bottom 0 of shape {bottom[0].shape} has no inputs from axis {self.axis} on")

    def param_shapes(self, bottom_shapes):
        param = self.layer_param.inner_product_param
        shape = (self.inputs, self.num_output) if self.transpose else (self.num_output, self.inputs)
        bias = [((self.num_output,), param.bias_filler)] if self.bias_term else []
        return [(shape, param.weight_filler), *bias]

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) <= self.axis or math.prod(shape[self.axis :]) != self.inputs:
            raise self.error(
                f"the weights were made for {self.inputs} inputs, but bottom 0 of shape {shape} has "
                f"{math.prod(shape[self.axis :])} from axis {self.axis} on"
            )
        return [(*shape[: self.axis], self.num_output)]

    def macs(self, bottom_shapes, top_shapes):
        return math.prod(top_shapes[0]) * self.inputs

    def forward_cpu(self, bottom, top):
        x, w = bottom[0].read_data().reshape(-1, self.inputs), self.blobs[0].read_data()
        y = top[0].data.reshape(-1, self.num_output)
        y[...] = x @ (w if self.transpose else w.T)
        if self.bias_term:
            y += self.blobs[1].read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        x, w = bottom[0].read_data().reshape(-1, self.inputs), self.blobs[0].read_data()
        dy = top[0].read_diff().reshape(-1, self.num_output)
        if self.param_propagate_down[0]:
            self.blobs[0].diff += x.T @ dy if self.transpose else dy.T @ x
        if self.bias_term and self.param_propagate_down[1]:
            self.blobs[1].diff += dy.sum(0)
        if propagate_down[0]:
            bottom[0].diff.reshape(-1, self.inputs)[...] = dy @ (w.T if self.transpose else w)

    def forward_gpu(self, bottom, top):
        m, n, k = top[0].count // self.num_output, self.num_output, self.inputs
        x, w, y = bottom[0].gpu_data(), self.blobs[0].gpu_data(), top[0].mutable_gpu_data()
        bias = self.blobs[1].gpu_data() if self.bias_term else 0
        self.products.gemm(False, not self.transpose, m, n, k, 1, x, w, 0, y, self.dtype, bias=bias)

    def backward_gpu(self, top, propagate_down, bottom):
        m, n, k = top[0].count // self.num_output, self.num_output, self.inputs
        x, w, dy = bottom[0].gpu_data(), self.blobs[0].gpu_data(), top[0].gpu_diff()
        db = self.blobs[1].mutable_gpu_diff() if self.bias_term and self.param_propagate_down[1] else 0
        if self.param_propagate_down[0] and not self.transpose:
            dw = self.blobs[0].mutable_gpu_diff()
            self.products.gemm(True, False, n, k, m, 1, dy, x, 1, dw, self.dtype, row_sums=db)
        else:
            if self.param_propagate_down[0]:
                self.products.gemm(True, False, k, n, m, 1, x, dy, 1, self.blobs[0].mutable_gpu_diff(), self.dtype)
            if db:
                self.kernel("bias_gradient")(n, m, dy, db)
        if propagate_down[0]:
            self.products.gemm(False, self.transpose, m, k, n, 1, dy, w, 0, bottom[0].mutable_gpu_diff(), self.dtype)
