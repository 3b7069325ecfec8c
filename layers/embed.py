"""Embed: looks up a row of a learned table for each index."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.rows import add_gpu, add_rows, row_numbers, take_gpu


@register("Embed")
class Embed(Layer):
    """y = W[x] + b: an InnerProduct of one-hot vectors, computed by look-up.

    Bottom: indices from 0 to input_dim - 1, any shape.  Top: the bottom's shape followed by num_output.
    Blobs: W (input_dim, num_output), and with bias_term b (num_output,).  The indices get no gradient.
    embed_param: num_output, input_dim, bias_term (true), weight_filler (constant 0), bias_filler (constant 0).
    """

    family = "weights"
    exact_num_bottom = exact_num_top = 1
    no_gradient = (0,)
    in_place = False
    backward_reads = ("bottom",)

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.embed_param.input_dim} → {layer_param.embed_param.num_output}"

    def setup(self, bottom, top):
        param = self.layer_param.embed_param
        self.num_output, self.input_dim, self.bias_term = param.num_output, param.input_dim, param.bias_term
        if not (self.num_output and self.input_dim):
            raise self.error(f"num_output and input_dim must be given, got {self.num_output} and {self.input_dim}")

    def param_shapes(self, bottom_shapes):
        param = self.layer_param.embed_param
        weight = ((self.input_dim, self.num_output), param.weight_filler)
        return [weight, ((self.num_output,), param.bias_filler)] if self.bias_term else [weight]

    def top_shapes(self, bottom_shapes):
        return [(*bottom_shapes[0], self.num_output)]

    def _indices(self, bottom):
        return row_numbers(self, bottom[0].read_data(), self.input_dim)

    def forward_cpu(self, bottom, top):
        y = top[0].data.reshape(-1, self.num_output)
        np.take(self.blobs[0].read_data(), self._indices(bottom), axis=0, out=y, mode="clip")
        if self.bias_term:
            y += self.blobs[1].read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        self._refuse_index_gradient(propagate_down)
        dy = top[0].read_diff().reshape(-1, self.num_output)
        if self.param_propagate_down[0]:
            add_rows(self.blobs[0].diff, self._indices(bottom), dy)
        if self.bias_term and self.param_propagate_down[1]:
            self.blobs[1].diff[...] += dy.sum(axis=0)

    def forward_gpu(self, bottom, top):
        count, x, y = bottom[0].count, bottom[0].gpu_data(), top[0].mutable_gpu_data()
        take_gpu(count, self.num_output, self.input_dim, x, self.blobs[0].gpu_data(), y, self.dtype)
        if self.bias_term:
            self.kernel("add_bias")(top[0].count, self.num_output, self.blobs[1].gpu_data(), y)

    def backward_gpu(self, top, propagate_down, bottom):
        self._refuse_index_gradient(propagate_down)
        count, x, dy = bottom[0].count, bottom[0].gpu_data(), top[0].gpu_diff()
        if self.param_propagate_down[0]:
            dw = self.blobs[0].mutable_gpu_diff()
            add_gpu(count, self.num_output, self.input_dim, x, dy, dw, self.dtype)
        if self.bias_term and self.param_propagate_down[1]:
            self.kernel("bias_gradient")(self.num_output, count, dy, self.blobs[1].mutable_gpu_diff())

    def _refuse_index_gradient(self, propagate_down):
        if propagate_down[0]:
            raise self.error("there is no gradient with respect to the indices (bottom 0)")
