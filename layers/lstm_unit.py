"""LSTMUnit: the elementwise part of one step of an LSTM."""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.lstm_step import lstm_step, lstm_step_gradient


@register("LSTMUnit")
class LSTMUnit(Layer):
    """c = cont f c_prev + i g,  h = o tanh(c),  where i, f, o = logistic and g = tanh of the quarters of x

    bottoms: c_prev (1, N, D), x (1, N, 4 D), cont (1, N), 0 where a sequence begins, else 1 (no gradient)
    tops: c (1, N, D), h (1, N, D)

    Source: Hochreiter and Schmidhuber, 1997; with the forget gate of Gers et al., 2000.
    """

    exact_num_bottom = 3
    exact_num_top = 2
    no_gradient = (2,)
    in_place = False
    backward_reads = ("bottom", "top")

    def setup(self, bottom, top):
        self.gates = Blob((), self.dtype)  # activated, (1, N, 4 D)

    def top_shapes(self, bottom_shapes):
        c, x, cont = bottom_shapes
        if len(c) != 3 or c[0] != 1:
            raise self.error(f"bottom 0 must be (1, N, D), got {c}")
        if x != (1, c[1], 4 * c[2]):
            raise self.error(f"bottom 1 must hold four gates, {(1, c[1], 4 * c[2])}, got {x}")
        if cont != (1, c[1]):
            raise self.error(f"bottom 2 must be one number for each sequence, {(1, c[1])}, got {cont}")
        return [c, c]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.gates.reshape(bottom[1].shape)

    def forward_cpu(self, bottom, top):
        self.gates.data = bottom[1].read_data()
        cont = bottom[2].read_data()[..., None]
        lstm_step(self.gates.data, cont, bottom[0].read_data(), top[0].data, top[1].data)

    def backward_cpu(self, top, propagate_down, bottom):
        dz, dc = lstm_step_gradient(
            self.gates.read_data(), bottom[2].read_data()[..., None], bottom[0].read_data(), top[0].read_data(),
            top[0].read_diff(), top[1].read_diff(),
        )  # fmt: skip
        for blob, wanted, diff in zip(bottom, propagate_down, (dc, dz)):
            if wanted:
                blob.diff = diff

    def forward_gpu(self, bottom, top):
        c_prev, x, cont = (blob.gpu_data() for blob in bottom)
        n, size, gates = top[0].count, top[0].shape[2], self.gates.mutable_gpu_data()
        tops = (top[0].mutable_gpu_data(), top[1].mutable_gpu_data())
        self.kernel("forward")(n, size, x, cont, c_prev, gates, *tops)

    def backward_gpu(self, top, propagate_down, bottom):
        n, size, c_prev, cont = top[0].count, top[0].shape[2], bottom[0].gpu_data(), bottom[2].gpu_data()
        dz = bottom[1].mutable_gpu_diff() if propagate_down[1] else 0
        dc_prev = bottom[0].mutable_gpu_diff() if propagate_down[0] else 0
        diffs = (top[0].gpu_diff(), top[1].gpu_diff(), dz, dc_prev)
        self.kernel("backward")(n, size, self.gates.gpu_data(), cont, c_prev, top[0].gpu_data(), *diffs)
