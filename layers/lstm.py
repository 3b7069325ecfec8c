"""LSTM: a recurrent layer with memory cells."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.cuda.kernels import kernel
from minicaffe.layers.shared.lstm_step import lstm_step, lstm_step_gradient
from minicaffe.layers.shared.recurrent import Recurrent


@register("LSTM")
class LSTM(Recurrent):
    """z_t = W_x x_t + b + W_s s + W_h (cont_t h_{t-1}), then h_t and c_t by `LSTMUnit` from z_t, cont_t and c_{t-1}

    Bottoms, tops and recurrent_param are those of `Recurrent`; top 0 is h (T, N, H), the two states are h and c.
    blobs: W_x (4 H, I), b (4 H), W_s (4 H, S) if there is s, W_h (4 H, H); the quarters are the gates i, f, o, g

    Source: Hochreiter and Schmidhuber, 1997; in the form of Donahue et al., 2015.
    """

    gates = 4
    states = 2
    backward_reads = ("bottom",)

    def step(self, t, z, cont, states):
        h, c = states
        lstm_step(z[t], cont[t], c[t], c[t + 1], h[t + 1])

    def step_gradient(self, t, z, cont, states, diffs):
        c = states[1]
        z[t], diffs[1] = lstm_step_gradient(z[t], cont[t], c[t], c[t + 1], diffs[1], diffs[0])

    def step_gpu(self, t, z, cont, states):
        (h, c), sequences, n = states, self.z.shape[1], self.z.shape[1] * self.size
        z_t, next_c, next_h = self._at(z, t, 4 * n), self._at(c, t + 1, n), self._at(h, t + 1, n)
        forward = kernel("lstm_unit", "forward", self.dtype)
        forward(n, self.size, z_t, self._at(cont, t, sequences), self._at(c, t, n), z_t, next_c, next_h)

    def step_gradient_gpu(self, t, z, dz, cont, states, diffs):
        c, sequences, n = states[1], self.z.shape[1], self.z.shape[1] * self.size
        z_t, dz_t, cont_t = self._at(z, t, 4 * n), self._at(dz, t, 4 * n), self._at(cont, t, sequences)
        backward = kernel("lstm_unit", "backward", self.dtype)
        backward(
            n, self.size, z_t, cont_t, self._at(c, t, n), self._at(c, t + 1, n), diffs[1], diffs[0], dz_t, diffs[1]
        )
