"""Quant: activations of few values, with the gradient of a function near them."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register

_FORWARD = ("sign", "hard_tanh", "hwgq", "relu")  # in the order of the kernel's numbers
_BACKWARD = ("hard_tanh", "relu")


@register("Quant")
class Quant(Layer):
    """y = f(x), with the gradient of another function g.

    bottom, top: any shape; in place if wanted.
    quant_param: forward_func, f ("hwgq"), backward_func, g ("relu"), centers, negative_slope s (0), clip_thr t (0; 0 or
    less: infinite).
    f  sign       1 where x >= 0, else -1
       hard_tanh  x, limited to -1 and 1
       hwgq       -s where x <= 0, else the nearest of the centers, which ascend and are above 0
       relu       x where x > 0, else s x
    g  hard_tanh  slope 1 where -t <= x <= t, else 0
       relu       slope 1 where x > 0, s elsewhere, but 0 where x > t
    Source: Cai, He, Sun and Vasconcelos, Deep learning with low precision by half-wave Gaussian quantization, 2017.
    """

    fork = "HWGQ"
    family = "activation"
    keeps_coordinates = True
    exact_num_bottom = exact_num_top = 1
    in_place = True
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.quant_param
        for name, known in (("forward_func", _FORWARD), ("backward_func", _BACKWARD)):
            if getattr(param, name) not in known:
                raise self.error(f'{name} must be one of {", ".join(known)}, got "{getattr(param, name)}"')
        self.forward_func, self.backward_func = param.forward_func, param.backward_func
        self.slope = param.negative_slope
        self.limit = param.clip_thr if param.clip_thr > 0 else np.inf
        centers = np.array(param.centers, self.dtype)
        ascending = centers.size and centers[0] > 0 and (np.diff(centers) >= 0).all()
        if self.forward_func == "hwgq" and not ascending:
            raise self.error(f"hwgq needs centers that are above 0 and ascend, got {list(param.centers)}")
        self.centers = Blob((centers.size,), self.dtype)
        self.centers.data[...] = centers

    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data(), top[0].data
        if self.forward_func == "sign":
            y[...] = np.where(x >= 0, 1, -1)
        elif self.forward_func == "hard_tanh":
            np.clip(x, -1, 1, out=y)
        elif self.forward_func == "hwgq":
            centers = self.centers.read_data()
            nearest = centers[np.searchsorted((centers[:-1] + centers[1:]) / 2, x)]
            y[...] = np.where(x <= 0, -self.slope, nearest)
        else:
            y[...] = np.where(x > 0, x, x.dtype.type(self.slope) * x)

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x = bottom[0].read_data()
        if self.backward_func == "hard_tanh":
            slope = np.abs(x) <= self.limit
        else:
            slope = np.where(x > 0, 1, x.dtype.type(self.slope)) * (x <= self.limit)
        np.multiply(top[0].read_diff(), slope, out=bottom[0].diff)

    def forward_gpu(self, bottom, top):
        rule = _FORWARD.index(self.forward_func), self.slope, self.centers.count, self.centers.gpu_data()
        self.kernel("forward")(bottom[0].count, *rule, bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            rule = self.backward_func == "relu", self.slope, min(self.limit, float(np.finfo(self.dtype).max))
            dx = bottom[0].mutable_gpu_diff()
            self.kernel("backward")(bottom[0].count, *rule, bottom[0].gpu_data(), top[0].gpu_diff(), dx)
