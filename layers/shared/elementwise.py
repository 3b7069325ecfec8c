"""The base of elementwise layers, y = f(x).

A layer states its formula for numpy and for CUDA; the base class does the rest:

    @register("TanH")
    class TanH(Elementwise):
        cuda_forward = "y = tanh(x)"
        cuda_backward = "dx = dy * (1 - y * y)"

        def numpy_forward(self, x, y):
            np.tanh(x, out=y)

        def numpy_backward(self, x, y, dy, dx):
            np.multiply(dy, 1 - y * y, out=dx)

In place x and y are one array, and so are dy and dx.  Backward gets the x or y that `backward_reads` names with the
values of the forward pass.  In place, with `top_serves_as_bottom`, it gets y for x: exact if the formula reads only the
sign of x, else what the original does.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.cuda import kernels

FORWARD = """
#include "packs.cuh"

__global__ void forward(const int n, const Dtype* bottom, Dtype* top{parameters}) {{
  const auto formula = [=](const Dtype x) {{
    Dtype y;
    {statement};
    return y;
  }};
  map(n, top, formula, bottom);
}}
"""

BACKWARD = """
__global__ void backward(const int n, const Dtype* bottom, const Dtype* top, const Dtype* top_diff,
                         Dtype* bottom_diff{parameters}) {{
  const auto formula = [=](const Dtype dy, [[maybe_unused]] const Dtype x, [[maybe_unused]] const Dtype y) {{
    Dtype dx;
    {statement};
    return dx;
  }};
  map(n, bottom_diff, formula, top_diff, bottom, top);
}}
"""


class FormulaLayer(Layer):
    """Base of layers whose kernels have formulas of the class: `cuda_text` returns their source."""

    def kernel(self, name):
        define_formulas(type(self))  # type: ignore[arg-type]  # mypy takes the __hash__ of its objects for that of a class
        return super().kernel(name)


class Elementwise(FormulaLayer):
    """y = f(x): one bottom of any shape, one top of the same shape, in place if wanted."""

    family = "activation"
    keeps_coordinates = True
    exact_num_bottom = exact_num_top = 1

    constants: tuple[str, ...] = ()  #: attributes that are arguments of both CUDA formulas, as Dtype
    cuda_forward = ""  #: a statement that sets y from x
    cuda_backward = ""  #: a statement that sets dx from x, y and dy; empty if there is no gradient
    in_place = True

    def numpy_forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write f(x) into y; both are flat, in place the same array."""
        raise NotImplementedError

    def numpy_backward(self, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Write dy f'(x) into dx; all are flat, in place dx is dy."""
        raise NotImplementedError

    def top_shapes(self, bottom_shapes):
        return bottom_shapes[:1]

    def forward_cpu(self, bottom, top):
        self.numpy_forward(bottom[0].read_data().reshape(-1), top[0].data.reshape(-1))

    def backward_cpu(self, top, propagate_down, bottom):
        if not self.cuda_backward:
            super().backward_cpu(top, propagate_down, bottom)
        elif propagate_down[0]:
            x, y = bottom[0].read_data().reshape(-1), top[0].read_data().reshape(-1)
            self.numpy_backward(x, y, top[0].read_diff().reshape(-1), bottom[0].diff.reshape(-1))

    def forward_gpu(self, bottom, top):
        n, x = bottom[0].count, bottom[0].gpu_data()
        self.kernel("forward").packs(n, x, top[0].mutable_gpu_data(), *self._constants())

    def backward_gpu(self, top, propagate_down, bottom):
        if not self.cuda_backward:
            super().backward_gpu(top, propagate_down, bottom)
        elif propagate_down[0]:
            x, y = bottom[0].gpu_data(), top[0].gpu_data()
            dy, dx = top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("backward").packs(bottom[0].count, x, y, dy, dx, *self._constants())

    @classmethod
    def cuda_text(cls) -> str:
        """Return the source of the kernels with the layer's formulas, in the form of a `.cu` file."""
        parameters = "".join(f", const Dtype {name}" for name in cls.constants)
        text = FORWARD.format(parameters=parameters, statement=cls.cuda_forward)
        return text + (BACKWARD.format(parameters=parameters, statement=cls.cuda_backward) if cls.cuda_backward else "")

    def _constants(self):
        return [getattr(self, name) for name in self.constants]


@functools.cache
def define_formulas(cls: Any) -> None:
    """Register the kernels of a type whose `cuda_text` has its formulas, once."""
    kernels.define(cls.kernel_file(), cls.cuda_text())


def rectified_slope(x: np.ndarray, slope: float | np.ndarray) -> np.ndarray:
    """Return 1 where x > 0, `slope` elsewhere.  (np.where takes ten times as long on numbers of random signs.)"""
    factor = (x <= 0).astype(x.dtype)
    factor *= slope
    factor += x > 0
    return factor


def logistic(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), computed as 0.5 tanh(0.5 x) + 0.5, which cannot overflow."""
    out = np.multiply(x, 0.5, out=out)
    np.tanh(out, out=out)
    out *= 0.5
    out += 0.5
    return out


def log_of_base(layer, base: float) -> float:
    """Return the natural logarithm of a base, -1 for e; raise the layer's error for any other at or below 0."""
    if base == -1:
        return 1.0
    if base <= 0:
        raise layer.error(f"base must be above 0, or -1 for e, got {base:g}")
    return math.log(base)
