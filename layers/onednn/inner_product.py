"""InnerProduct by oneDNN; a bottom of up to 5 axes is read in its own layout, not flattened first."""

from __future__ import annotations

import math

from minicaffe.core.registry import register
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import F32, Arg
from minicaffe.onednn.tensors import Tensor, any_layout, plain
from minicaffe.proto import TEST

_MOST_AXES = 5


@register("InnerProduct", engine="ONEDNN")
class OneDNNInnerProduct(OneDNNLayer, InnerProduct):
    __doc__ = InnerProduct.__doc__
    reads_blobs_only = True
    bf16_use = "reads"

    def expressible(self, bottom, top):
        return self.plain and not self.transpose

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if not self.native:
            return
        axis = bottom[0].canonical_axis(self.layer_param.inner_product_param.axis)
        shape, self.bias = bottom[0].shape, len(self.blobs) > 1
        rows = math.prod(shape[:axis])
        self.in_shape = shape if axis == 1 and len(shape) <= _MOST_AXES else (rows, math.prod(shape[axis:]))
        self.weight_shape, self.out_shape = (self.blobs[0].shape[0], *self.in_shape[1:]), (rows, self.blobs[0].shape[0])
        self.shapes = self.in_shape, self.weight_shape, self.out_shape

    def arguments(self, result: int) -> tuple:
        """The layouts of input, weights and output; result: which of them is the result, by index."""
        result_type = (self.diff_type, F32, F32)[result]
        descs = [any_layout(s, result_type if i == result else self.operand_type) for i, s in enumerate(self.shapes)]
        # weights that change in every step are not converted: that takes longer than it saves
        if self.phase != TEST and descs[1].float32:
            descs[1] = plain(self.weight_shape)
        return tuple(descs)

    def make_forward(self, bias: bool, post: tuple = (), training: bool = True):
        bias_desc = plain(self.out_shape[1:]) if bias else None
        inputs, weights, outputs = self.arguments(2)
        return primitives.inner_product(inputs, weights, bias_desc, outputs, training, post)

    def make_backward_data(self):
        return primitives.inner_product_backward_data(*self.arguments(0), self.make_forward(False))

    def make_backward_weights(self, bias: bool):
        inputs, weights, outputs = self.arguments(1)
        bias_desc = plain(self.out_shape[1:]) if bias else None
        return primitives.inner_product_backward_weights(inputs, weights, bias_desc, outputs, self.make_forward(bias))

    def weights_as(self, primitive) -> Tensor:
        """The weights in the layout that a primitive needs."""
        return layouts.read(self.blobs[0].data_memory, self.weight_shape, primitive.desc(Arg.WEIGHTS))

    def forward_onednn(self, bottom, top, post=()):
        product = self.plan(self.make_forward, self.bias, post, self.phase != TEST)
        x = layouts.read(bottom[0].data_memory, self.in_shape, product.desc(Arg.SRC))
        y = layouts.mutable_data(top[0], product.desc(Arg.DST))
        bias = layouts.data(self.blobs[1]) if self.bias else None
        self.execute(product, Arg.SRC, x, Arg.WEIGHTS, self.weights_as(product), Arg.BIAS, bias, Arg.DST, y)

    def backward_onednn(self, top, propagate_down, bottom):
        if any(self.param_propagate_down):
            self.add_weight_diffs(bottom[0], top[0])
        if propagate_down[0]:
            product = self.plan(self.make_backward_data)
            dy = layouts.read(top[0].diff_memory, self.out_shape, product.desc(Arg.DIFF_DST))
            dx = layouts.mutable_diff(bottom[0], product.desc(Arg.DIFF_SRC))
            self.execute(product, Arg.DIFF_DST, dy, Arg.WEIGHTS, self.weights_as(product), Arg.DIFF_SRC, dx)

    def add_weight_diffs(self, bottom, top):
        """Add to the diffs of weights and bias."""
        bias = self.bias and self.param_propagate_down[1]
        product = self.plan(self.make_backward_weights, bias)
        x = layouts.read(bottom.data_memory, self.in_shape, product.desc(Arg.SRC))
        dy = layouts.read(top.diff_memory, self.out_shape, product.desc(Arg.DIFF_DST))
        dw, db = self.borrow(product.desc(Arg.DIFF_WEIGHTS), "dw"), self.borrow(product.desc(Arg.DIFF_BIAS), "db")
        self.execute(product, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_WEIGHTS, dw, Arg.DIFF_BIAS, db)
        self.add_to_diffs(dw, db)
