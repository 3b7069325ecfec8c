"""Embed: a row of a table for each index."""

import numpy as np

from minicaffe.layer import Layer, register


@register("Embed")
class Embed(Layer):
    """y = W[x] + b: what an InnerProduct makes of a one-hot vector, without the products.

    Bottom: indices, any shape, 0 to input_dim - 1.  Top: the bottom's shape followed by num_output.
    Blobs: W (input_dim, num_output), and with bias_term b (num_output,).  No gradient goes to the indices.
    embed_param: num_output, input_dim, bias_term (true), weight_filler (constant 0), bias_filler (constant 0).
    """

    exact_num_bottom = exact_num_top = 1

    def setup(self, bottom, top):
        param = self.layer_param.embed_param
        self.num_output, self.input_dim, self.bias_term = param.num_output, param.input_dim, param.bias_term
        if not (self.num_output and self.input_dim):
            raise self.error(f"num_output and input_dim must be given, got {self.num_output} and {self.input_dim}")

    def allow_force_backward(self, bottom_index):
        return False

    def param_shapes(self, bottom_shapes):
        param = self.layer_param.embed_param
        weight = ((self.input_dim, self.num_output), param.weight_filler)
        return [weight, ((self.num_output,), param.bias_filler)] if self.bias_term else [weight]

    def top_shapes(self, bottom_shapes):
        return [(*bottom_shapes[0], self.num_output)]

    def _indices(self, bottom):
        with np.errstate(invalid="ignore"):
            indices = bottom[0].read_data().reshape(-1).astype(np.int32)
        if indices.size and not (indices.min() >= 0 and indices.max() < self.input_dim):
            wrong = indices[(indices < 0) | (indices >= self.input_dim)][0]
            raise self.error(f"index {wrong} is out of range: input_dim is {self.input_dim}")
        return indices

    def forward_cpu(self, bottom, top):
        y = top[0].data.reshape(-1, self.num_output)
        np.take(self.blobs[0].read_data(), self._indices(bottom), axis=0, out=y, mode="clip")
        if self.bias_term:
            y += self.blobs[1].read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            raise self.error("there is no gradient with respect to the indices (bottom 0)")
        dy = top[0].read_diff().reshape(-1, self.num_output)
        if self.param_propagate_down[0]:
            np.add.at(self.blobs[0].diff, self._indices(bottom), dy)
        if self.bias_term and self.param_propagate_down[1]:
            self.blobs[1].diff[...] += dy.sum(axis=0)
