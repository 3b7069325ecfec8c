"""RNN: a recurrent layer with tanh units."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.recurrent import Recurrent


@register("RNN")
class RNN(Recurrent):
    """h_t = tanh(W_x x_t + b + W_s s + W_h (cont_t h_{t-1})),  o_t = tanh(W_o h_t + b_o)

    Bottoms, tops and recurrent_param are those of `Recurrent`; top 0 is o (T, N, H), the one state is h.
    blobs: W_x (H, I), b (H), W_s (H, S) if there is s, W_h (H, H), W_o (H, H), b_o (H)

    Source: Elman, 1990; in the form of Donahue et al., 2015.
    """

    backward_reads = ("bottom", "top")

    def param_shapes(self, bottom_shapes):
        param = self.layer_param.recurrent_param
        own = [((self.size, self.size), param.weight_filler), ((self.size,), param.bias_filler)]
        return [*super().param_shapes(bottom_shapes), *own]

    def macs(self, bottom_shapes, top_shapes):
        return super().macs(bottom_shapes, top_shapes) + math.prod(top_shapes[0]) * self.size

    def step(self, t, z, cont, states):
        np.tanh(z[t], out=states[0][t + 1])

    def step_gradient(self, t, z, cont, states, diffs):
        z[t] = diffs[0] * (1 - states[0][t + 1] ** 2)

    def output(self, h, y):
        y[...] = np.tanh(h @ self.blobs[-2].read_data().T + self.blobs[-1].read_data())

    def output_gradient(self, h, y, dy):
        d = dy * (1 - y**2)
        flat = d.reshape(-1, self.size)
        self._add(len(self.blobs) - 2, flat.T @ h.reshape(-1, self.size))
        self._add(len(self.blobs) - 1, flat.sum(0))
        return d @ self.blobs[-2].read_data()

    def step_gpu(self, t, z, cont, states):
        n = self.z.count_range(1)
        self.kernel("squash")(n, self._at(z, t, n), self._at(states[0], t + 1, n))

    def step_gradient_gpu(self, t, z, dz, cont, states, diffs):
        n = self.z.count_range(1)
        self.kernel("squash_gradient")(n, diffs[0], self._at(states[0], t + 1, n), self._at(dz, t, n))

    def output_gpu(self, h, y, steps, sequences):
        rows, w, b = steps * sequences, self.blobs[-2].gpu_data(), self.blobs[-1].gpu_data()
        ops.gemm(False, True, rows, self.size, self.size, 1, h, w, 0, y, self.dtype)
        self.kernel("squash_with_bias")(rows * self.size, self.size, b, y)

    def output_gradient_gpu(self, h, top, dh, steps, sequences):
        rows, last, d = steps * sequences, len(self.blobs) - 1, self.dh.mutable_gpu_diff()
        self.kernel("squash_gradient")(top.count, top.gpu_diff(), top.gpu_data(), d)
        self.add_product(last - 1, self.size, self.size, rows, d, h)
        self.add_sum(last, self.size, rows, d)
        ops.gemm(False, False, rows, self.size, self.size, 1, d, self.blobs[-2].gpu_data(), 0, dh, self.dtype)
