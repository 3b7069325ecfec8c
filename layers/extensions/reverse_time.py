"""ReverseTime: turns the steps of sequences round, of each as many as it has."""

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("ReverseTime")
class ReverseTime(Layer):
    """y[t, n] = x[length[n] - 1 - t, n] for t < length[n]; behind that x[t, n] with copy_remaining, else 0

    bottoms: x (T, N, ...); the lengths (N), 0 to T, without a gradient
    top: (T, N, ...)
    reverse_time_param: copy_remaining (false).
    A length outside 0 to T raises LayerError; on the GPU, where lengths are not read back, the sequence becomes nan.
    Source: caffe_ocr's fork.
    """

    fork = "caffe_ocr"
    family = "arrangement"
    exact_num_bottom, exact_num_top = 2, 1
    no_gradient = (1,)
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        self.copies = self.layer_param.reverse_time_param.copy_remaining

    def top_shapes(self, bottom_shapes):
        x, lengths = bottom_shapes
        if len(x) < 2 or math.prod(lengths) != x[1]:
            raise self.error(f"bottoms must be (T, N, ...) and a length for each of N, got {x} and {lengths}")
        return [x]

    def forward_cpu(self, bottom, top):
        self._turn(bottom, bottom[0].read_data(), top[0].data)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self._turn(bottom, top[0].read_diff(), bottom[0].diff)

    def _turn(self, bottom, x: np.ndarray, y: np.ndarray) -> None:
        """Write x with turned steps into y: also the gradient, since it moves each number back."""
        steps, lengths = np.arange(x.shape[0])[:, None], bottom[1].read_data().reshape(-1)
        wrong = ~((lengths >= 0) & (lengths <= x.shape[0]))
        if wrong.any():
            raise self.error(f"lengths must be 0 to {x.shape[0]}, the steps of bottom 0, got {lengths[wrong][0]:g}")
        back = lengths.astype(int) - 1 - steps
        y[...] = x[np.where(back < 0, steps, back), np.arange(x.shape[1])]
        if not self.copies:
            y[back < 0] = 0

    def forward_gpu(self, bottom, top):
        self._turn_gpu(bottom, bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self._turn_gpu(bottom, top[0].gpu_diff(), bottom[0].mutable_gpu_diff())

    def _turn_gpu(self, bottom, x: int, y: int) -> None:
        count, (steps, sequences), inner = bottom[0].count, bottom[0].shape[:2], bottom[0].count_range(2)
        self.kernel("turn")(count, steps, sequences, inner, self.copies, bottom[1].gpu_data(), x, y)
