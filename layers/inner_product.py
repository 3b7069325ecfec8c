"""InnerProduct: the fully connected layer."""

from __future__ import annotations

import math
from typing import Any

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.unit_rows import normalize_rows, normalize_rows_gpu


@register("InnerProduct")
class InnerProduct(Layer):
    """y = x w^T + b, with x flattened from `axis` on.

    bottom: (M..., K...): the axes before `axis` count samples, the others make vectors of K numbers
    top: (M..., num_output)
    blobs: weights (num_output, K), or (K, num_output) with transpose; bias (num_output)

    inner_product_param: num_output, bias_term true, weight_filler and bias_filler constant 0, axis 1, transpose false.
    Extensions (NormFace): normalize (false; true: each forward pass, in TEST too, scales the rows of the stored weights
    to length 1, and their gradient is that of the scaled rows).  Bottom 1, if given, holds the weights, bottom 2 the
    bias, in place of blobs; both get gradients, and the length of bottom 1 takes the place of num_output.
    """

    family = "weights"
    min_bottom, max_bottom = 1, 3
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)
    #: computes the products on the device by `gemm`
    products: Any = ops

    @staticmethod
    def describe(layer_param):
        return str(layer_param.inner_product_param.num_output)

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return False if self.normalize else None  # a pass changes the weights

    def setup(self, bottom, top):
        param = self.layer_param.inner_product_param
        self.num_output, self.bias_term, self.transpose = param.num_output, param.bias_term, param.transpose
        self.normalize = param.normalize
        self.plain = len(bottom) == 1 and not self.normalize
        if not self.plain:
            self.fuses_as = "InnerProduct with weights from elsewhere"
            self._read_more_bottoms([b.shape for b in bottom])
        if self.num_output < 1:
            raise self.error("num_output must be at least 1")
        self.axis = bottom[0].canonical_axis(param.axis)
        self.inputs = bottom[0].count_range(self.axis)
        if not self.inputs:
            raise self.error(f"bottom 0 of shape {bottom[0].shape} has no inputs from axis {self.axis} on")

    def _read_more_bottoms(self, shapes) -> None:
        if self.normalize and (self.transpose or len(shapes) > 1):
            raise self.error("normalize scales the rows of weights that the layer stores: no transpose, no bottom 1")
        if len(shapes) > 1:
            side = 1 if self.transpose else 0
            if len(shapes[1]) < 2:
                raise self.error(f"bottom 1, the weights, must have two axes or more, got {shapes[1]}")
            self.num_output = math.prod(shapes[1][1:]) if side else shapes[1][0]
        if len(shapes) > 2 and not self.bias_term:
            raise self.error("bottom 2 is the bias: bias_term must be true")

    def param_shapes(self, bottom_shapes):
        param, given = self.layer_param.inner_product_param, len(bottom_shapes)
        weights = [(self._weight_shape(), param.weight_filler)] if given == 1 else []
        bias = [((self.num_output,), param.bias_filler)] if self.bias_term and given < 3 else []
        return weights + bias

    def _weight_shape(self) -> tuple[int, int]:
        return (self.inputs, self.num_output) if self.transpose else (self.num_output, self.inputs)

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        if len(shape) <= self.axis or math.prod(shape[self.axis :]) != self.inputs:
            raise self.error(
                f"the weights were made for {self.inputs} inputs, but bottom 0 of shape {shape} has "
                f"{math.prod(shape[self.axis :])} from axis {self.axis} on"
            )
        for i, expected in ((1, self._weight_shape()), (2, (self.num_output,))):
            if len(bottom_shapes) > i:
                given = bottom_shapes[i]
                if (given[:1], math.prod(given)) != (expected[:1], math.prod(expected)):
                    raise self.error(f"bottom {i} must be {expected}, got {given}")
        return [(*shape[: self.axis], self.num_output)]

    def macs(self, bottom_shapes, top_shapes):
        return math.prod(top_shapes[0]) * self.inputs

    def operands(self, bottom) -> tuple[Any, Any]:
        """Return the blobs of weights and bias, each learned or a bottom; None for no bias."""
        weights = bottom[1] if len(bottom) > 1 else self.blobs[0]
        if not self.bias_term:
            return weights, None
        return weights, bottom[2] if len(bottom) > 2 else self.blobs[-1]

    def wanted(self, propagate_down) -> tuple[bool, bool]:
        """Return whether weights and bias get gradients."""
        count, learned = len(propagate_down), self.param_propagate_down
        weights = propagate_down[1] if count > 1 else learned[0]
        bias = propagate_down[2] if count > 2 else self.bias_term and learned[-1]
        return bool(weights), bool(bias)

    def forward_cpu(self, bottom, top):
        if self.normalize:
            normalize_rows(self.blobs[0])
        weights, bias = self.operands(bottom)
        x, w = bottom[0].read_data().reshape(-1, self.inputs), weights.read_data().reshape(self._weight_shape())
        y = top[0].data.reshape(-1, self.num_output)
        y[...] = x @ (w if self.transpose else w.T)
        if bias is not None:
            y += bias.read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        (weights, bias), wanted = self.operands(bottom), self.wanted(propagate_down)
        x, w = bottom[0].read_data().reshape(-1, self.inputs), weights.read_data().reshape(self._weight_shape())
        dy = top[0].read_diff().reshape(-1, self.num_output)
        for blob, index in ((weights, 1), (bias, 2)):
            if len(bottom) > index and wanted[index - 1]:
                blob.diff[...] = 0
        if wanted[0]:
            weights.diff.reshape(w.shape)[...] += x.T @ dy if self.transpose else dy.T @ x
        if wanted[1]:
            bias.diff[...] += dy.sum(0)
        if propagate_down[0]:
            bottom[0].diff.reshape(-1, self.inputs)[...] = dy @ (w.T if self.transpose else w)

    def forward_gpu(self, bottom, top):
        if self.normalize:
            normalize_rows_gpu(self.blobs[0], self.dtype)
        weights, bias = self.operands(bottom)
        m, n, k = top[0].count // self.num_output, self.num_output, self.inputs
        x, w, y = bottom[0].gpu_data(), weights.gpu_data(), top[0].mutable_gpu_data()
        b = 0 if bias is None else bias.gpu_data()
        self.products.gemm(False, not self.transpose, m, n, k, 1, x, w, 0, y, self.dtype, bias=b)

    def backward_gpu(self, top, propagate_down, bottom):
        (weights, bias), wanted = self.operands(bottom), self.wanted(propagate_down)
        m, n, k = top[0].count // self.num_output, self.num_output, self.inputs
        x, w, dy = bottom[0].gpu_data(), weights.gpu_data(), top[0].gpu_diff()
        for blob, index in ((weights, 1), (bias, 2)):
            if len(bottom) > index and wanted[index - 1]:
                ops.fill(blob.count, 0, blob.mutable_gpu_diff(), self.dtype)
        db = bias.mutable_gpu_diff() if wanted[1] else 0
        if wanted[0] and not self.transpose:
            self.products.gemm(True, False, n, k, m, 1, dy, x, 1, weights.mutable_gpu_diff(), self.dtype, row_sums=db)
        else:
            if wanted[0]:
                self.products.gemm(True, False, k, n, m, 1, x, dy, 1, weights.mutable_gpu_diff(), self.dtype)
            if db:
                self.kernel("bias_gradient")(n, m, dy, db)
        if propagate_down[0]:
            self.products.gemm(False, self.transpose, m, k, n, 1, dy, w, 0, bottom[0].mutable_gpu_diff(), self.dtype)
