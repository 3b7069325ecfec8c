"""Layers that treat every number alike: y = f(x).

A layer of this family states its formula twice, for numpy and for CUDA, and the base class supplies the rest:

    @register("TanH")
    class TanH(Elementwise):
        cuda_forward = "y = tanh(x)"
        cuda_backward = "dx = dy * (1 - y * y)"

        def numpy_forward(self, x, y):
            np.tanh(x, out=y)

        def numpy_backward(self, x, y, dy, dx):
            np.multiply(dy, 1 - y * y, out=dx)

In place x and y are one array, and so are dy and dx.  Backward gets the x or y that `backward_reads` names as they were
in forward.  With `top_serves_as_bottom` it gets y for x: right where the formula uses only the sign of x, and elsewhere
what the original does.
"""

from __future__ import annotations

import functools

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.cuda import kernels

FORWARD = """
__global__ void forward(const int n, const Dtype* bottom, Dtype* top{parameters}) {{
  GRID_STRIDE(i, n) {{
    const Dtype x = bottom[i];
    Dtype y;
    {statement};
    top[i] = y;
  }}
}}
"""

BACKWARD = """
__global__ void backward(const int n, const Dtype* bottom, const Dtype* top, const Dtype* top_diff,
                         Dtype* bottom_diff{parameters}) {{
  GRID_STRIDE(i, n) {{
    const Dtype dy = top_diff[i];
    [[maybe_unused]] const Dtype x = bottom[i];
    [[maybe_unused]] const Dtype y = top[i];
    Dtype dx;
    {statement};
    bottom_diff[i] = dx;
  }}
}}
"""


class Elementwise(Layer):
    """y = f(x): one bottom of any shape, one top of the same shape, in place if wanted."""

    exact_num_bottom = exact_num_top = 1

    constants: tuple[str, ...] = ()  #: attributes that both CUDA formulas may use by name, as Dtype
    cuda_forward = ""  #: a statement that sets y from x
    cuda_backward = ""  #: a statement that sets dx from x, y and dy; empty where there is no gradient
    in_place = True

    def numpy_forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write f(x) into y; both flat, and the same array in place."""
        raise NotImplementedError

    def numpy_backward(self, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Write dy f'(x) into dx; all flat; in place dx is dy."""
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
        self.kernel("forward")(n, x, top[0].mutable_gpu_data(), *self._constants())

    def backward_gpu(self, top, propagate_down, bottom):
        if not self.cuda_backward:
            super().backward_gpu(top, propagate_down, bottom)
        elif propagate_down[0]:
            x, y = bottom[0].gpu_data(), top[0].gpu_data()
            dy, dx = top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("backward")(bottom[0].count, x, y, dy, dx, *self._constants())

    def kernel(self, name):
        _define(type(self))  # type: ignore[arg-type]  # mypy takes the __hash__ of its objects for that of a class
        return super().kernel(name)

    @classmethod
    def cuda_text(cls) -> str:
        """The kernels that the formulas make, as they would stand in a `.cu` file of the layer's own."""
        parameters = "".join(f", const Dtype {name}" for name in cls.constants)
        text = FORWARD.format(parameters=parameters, statement=cls.cuda_forward)
        return text + (BACKWARD.format(parameters=parameters, statement=cls.cuda_backward) if cls.cuda_backward else "")

    def _constants(self):
        return [getattr(self, name) for name in self.constants]


@functools.cache
def _define(cls: type[Elementwise]) -> None:
    """Make the kernels of a layer known, once."""
    kernels.define(cls.kernel_file(), cls.cuda_text())


def rectified_slope(x: np.ndarray, slope: float | np.ndarray) -> np.ndarray:
    """1 where x > 0, `slope` elsewhere.  (Arithmetic: np.where takes ten times as long on numbers of random signs.)"""
    factor = (x <= 0).astype(x.dtype)
    factor *= slope
    factor += x > 0
    return factor
