"""Lstm: a recurrent layer with memory cells, whose sequences begin at step 0 unless another bottom marks them."""

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.lstm import LSTM


@register("Lstm")
class Lstm(LSTM):
    """z_t = W_x x_t + W_h (cont_t h_{t-1}) + b, then h_t and c_t from z_t as in `LSTM`, with cont_t c_{t-1}

    bottom 0: x (T, N, ...), T steps of N sequences, or (T N, ...), step by step, with batch_size N: where batch_size is
        given, or there are fewer than three axes.  bottom 1, optional: cont, T N numbers, 0 where a sequence begins,
        else 1.  Without it all sequences begin at step 0; with it a sequence may go on from the batch before.
    top: h, (T, N, H) or (T N, H)
    blobs: W_x (4 H, I), W_h (4 H, H), b (4 H); the quarters are the gates i, f, o, g

    lstm_param: num_output H; weight_filler, bias_filler (constant 0); batch_size N (1); clipping_threshold (0): limit
    of the absolute values of the gradient of z_t, at each step; 0: none.
    Source: Junhyuk Oh's fork, caffe_ocr, CTPN; Hochreiter and Schmidhuber, 1997.
    """

    fork = "Junhyuk Oh's; caffe_ocr; CTPN"
    param_field = "lstm_param"
    min_bottom, max_bottom = 1, 2  # type: ignore[assignment]  # in place of properties
    exact_num_top = 1  # type: ignore[assignment]  # in place of a property
    _exposed = 0  # type: ignore[assignment]  # in place of a property
    static = False
    w_h, bias = 1, 2  # type: ignore[assignment]  # in place of properties

    @staticmethod
    def describe(layer_param):
        return str(layer_param.lstm_param.num_output)

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return not self.carries

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param, shape = self.layer_param.lstm_param, bottom[0].shape
        self.joined, self.batch = param.HasField("batch_size") or len(shape) < 3, param.batch_size
        self.inputs = math.prod(shape[2 - self.joined :])
        self.carries = len(bottom) > 1
        self.begins = Blob((), self.dtype)

    def param_shapes(self, bottom_shapes):
        param, width = self.layer_param.lstm_param, 4 * self.size
        weights = [((width, count), param.weight_filler) for count in (self.inputs, self.size)]
        return [*weights, ((width,), param.bias_filler)]

    def top_shapes(self, bottom_shapes):
        x, *cont = bottom_shapes
        form = "(T N, ...)" if self.joined else "(T, N, ...)"
        if len(x) < 2 - self.joined or math.prod(x[2 - self.joined :]) != self.inputs:
            raise self.error(f"bottom 0 must be {form} with {self.inputs} inputs for each step, got {x}")
        if self.joined and (not self.batch or x[0] % self.batch):
            raise self.error(f"batch_size must divide the length of axis 0, {x[0]}, got {self.batch}")
        steps, sequences = self.sequences_of(x)
        if cont and math.prod(cont[0]) != steps * sequences:
            raise self.error(f"bottom 1 must mark T x N beginnings ({steps}, {sequences}), got {cont[0]}")
        return [(*x[: 2 - self.joined], self.size)]

    def sequences_of(self, shape):
        return (shape[0] // self.batch, self.batch) if self.joined else shape[:2]

    def continuation(self, bottom):
        return bottom[1] if len(bottom) > 1 else self.begins

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.begins.reshape(self.z.shape[:2])
        self.begins.data[...] = 1
        self.begins.data[:1] = 0

    def macs(self, bottom_shapes, top_shapes):
        return math.prod(top_shapes[0]) * 4 * (self.inputs + self.size)

    @property
    def threshold(self) -> float:
        """The limit of the gradient of z; 0: none."""
        return self.layer_param.lstm_param.clipping_threshold

    def step_gradient(self, t, z, cont, states, diffs):
        super().step_gradient(t, z, cont, states, diffs)
        if self.threshold > 0:
            np.clip(z[t], -self.threshold, self.threshold, out=z[t])

    def step_gradient_gpu(self, t, z, dz, cont, states, diffs):
        super().step_gradient_gpu(t, z, dz, cont, states, diffs)
        if self.threshold > 0:
            count = self.z.count_range(1)
            ops.limit(count, -self.threshold, self.threshold, self._at(dz, t, count), self.dtype)
