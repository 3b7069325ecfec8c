"""The base of layers that change the score of each sample's own class and no other.

A layer states its formula for numpy and for CUDA, from c, the score of the label, to y, the new score, and slope, its
derivative:

    @register("CombinedMargin")
    class CombinedMargin(LabelMargin):
        constants = ("m3",)
        cuda_margin = "y = c - m3; slope = 1"

        def numpy_margin(self, c):
            return c - self.m3, np.ones_like(c)
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda import ops
from minicaffe.layers.shared.elementwise import FormulaLayer
from minicaffe.layers.shared.loss import bad_label
from minicaffe.layers.shared.views import truncated

KERNELS = """
// One thread for each sample; kept is (2, samples): the label, or -1, and the slope.
__global__ void forward(const int n, const int classes, const Dtype *labels, Dtype *top, Dtype *kept{parameters}) {{
  GRID_STRIDE(i, n) {{
    const int label = (int)labels[i];
    const bool valid = label >= 0 && label < classes;
    kept[i] = valid ? label : -1;
    kept[n + i] = 1;
    if (!valid) continue;
    const Dtype c = top[(long long)i * classes + label];
    Dtype y, slope;
    {statement};
    top[(long long)i * classes + label] = y;
    kept[n + i] = slope;
  }}
}}

__global__ void backward(const int n, const int classes, const Dtype *kept, Dtype *dx) {{
  GRID_STRIDE(i, n)
  if (kept[i] >= 0) dx[(long long)i * classes + (int)kept[i]] *= kept[n + i];
}}
"""


class LabelMargin(FormulaLayer):
    """y = x, but for the label of a sample y = f(x).

    Bottoms: scores (N, ...), of C numbers for each sample; labels, N numbers.  Top 0: the shape of the scores, in place
    if wanted.  A sample with a label below 0 stays as it is; a label above C - 1 is an error on the CPU, on the GPU
    that sample stays, too.
    """

    family = "loss"
    exact_num_bottom = 2
    exact_num_top: int | None = 1
    in_place = True
    backward_reads = ()
    no_gradient = (1,)

    constants: tuple[str, ...] = ()  #: attributes that are arguments of the CUDA formula, as Dtype
    cuda_margin = ""  #: statements that set y and slope from c
    applies = True  #: whether there is a margin, set by `setup`; if not, y = x and labels are not read

    def numpy_margin(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the new scores of the labels and their derivatives, from the scores c."""
        raise NotImplementedError

    def setup(self, bottom, top):
        self.kept = Blob((), self.dtype)  # of each sample the label, or -1, and the slope

    def top_shapes(self, bottom_shapes):
        scores, labels = bottom_shapes
        if not scores or math.prod(labels) != scores[0]:
            raise self.error(f"bottom 1 must hold one label for each sample of bottom 0 {scores}, got {labels}")
        return [scores, (1,)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.samples = bottom[0].shape[0]
        self.classes = bottom[0].count_range(1)
        self.kept.reshape(2, self.samples)

    def forward_cpu(self, bottom, top):
        y = top[0].data.reshape(self.samples, self.classes)
        if top[0] is not bottom[0]:
            y[...] = bottom[0].read_data().reshape(y.shape)
        if not self.applies:
            return
        labels = truncated(bottom[1].read_data().reshape(-1))
        if (labels >= self.classes).any():
            raise bad_label(self, labels.max(), self.classes)
        self.kept.data[...] = np.maximum(labels, -1), np.ones(self.samples)
        rows = np.flatnonzero(labels >= 0)
        at = rows, labels[rows]
        y[at], self.kept.data[1][rows] = self.numpy_margin(y[at])

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dx = bottom[0].diff.reshape(self.samples, self.classes)
        if top[0] is not bottom[0]:
            dx[...] = top[0].read_diff().reshape(dx.shape)
        if self.applies:
            labels, slope = self.kept.read_data()
            rows = np.flatnonzero(labels >= 0)
            dx[rows, labels[rows].astype(np.int32)] *= slope[rows]

    def forward_gpu(self, bottom, top):
        y, labels = top[0].mutable_gpu_data(), bottom[1].gpu_data()
        if top[0] is not bottom[0]:
            ops.copy(top[0].count, bottom[0].gpu_data(), y, self.dtype)
        if not self.applies:
            return
        constants = [getattr(self, name) for name in self.constants]
        self.kernel("forward")(self.samples, self.classes, labels, y, self.kept.mutable_gpu_data(), *constants)

    def backward_gpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dx = bottom[0].mutable_gpu_diff()
        if top[0] is not bottom[0]:
            ops.copy(top[0].count, top[0].gpu_diff(), dx, self.dtype)
        if self.applies:
            self.kernel("backward")(self.samples, self.classes, self.kept.gpu_data(), dx)

    @classmethod
    def cuda_text(cls) -> str:
        """Return the source of the kernels with the layer's formula, in the form of a `.cu` file."""
        parameters = "".join(f", const Dtype {name}" for name in cls.constants)
        return KERNELS.format(parameters=parameters, statement=cls.cuda_margin)
