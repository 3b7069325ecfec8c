"""RReLU: a rectifier whose slope for negative numbers is random while training."""

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.random import DeviceStream
from minicaffe.proto import TRAIN

_RANGE = 2.0**32  # of the random numbers


@register("RReLU")
class RReLU(Layer):
    """y = x where x > 0, else x / s.  In TRAIN each s is uniform between lb and ub; in TEST (ub - lb) / log(ub / lb).

    bottom, top: any shape; in place if wanted.
    rrelu_param: lb (5), ub (10); both above 0, or both below.
    Source: Xu, Wang, Chen and Li, Empirical evaluation of rectified activations in convolution network, 2015.
    """

    fork = "ducha-aiki"
    family = "activation"
    keeps_coordinates = True
    exact_num_bottom = exact_num_top = 1
    in_place = True
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.rrelu_param
        self.least, self.greatest = param.lb, param.ub
        if not self.least < self.greatest or self.least * self.greatest <= 0:
            raise self.error(f"lb must be below ub, and both above or both below 0, got {param.lb:g} and {param.ub:g}")
        self.fixed = 1 / ((self.greatest - self.least) / math.log(self.greatest / self.least))
        self.draws = self.phase == TRAIN
        self.slopes = Blob((), self.dtype)
        self.device_rng = None

    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.slopes.reshape(bottom[0].shape)

    def forward_cpu(self, bottom, top):
        x, slopes = bottom[0].read_data(), self.slopes.data
        if self.draws:
            drawn = self.rng.uniform_u32(slopes.size).reshape(slopes.shape) / _RANGE
            np.divide(1, self.least + (self.greatest - self.least) * drawn, out=slopes)
        else:
            slopes[...] = self.fixed
        slopes[x > 0] = 1
        np.multiply(x, slopes, out=top[0].data)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            np.multiply(top[0].read_diff(), self.slopes.read_data(), out=bottom[0].diff)

    def forward_gpu(self, bottom, top):
        n, x, slopes = bottom[0].count, bottom[0].gpu_data(), self.slopes.mutable_gpu_data()
        if self.draws:
            if self.device_rng is None:
                self.device_rng = DeviceStream(self.rng)
            arguments = self.device_rng.draw(n), ops.tickets(1), self.least, self.greatest
            self.kernel("draw")(n, *arguments, x, slopes, top[0].mutable_gpu_data())
        else:
            self.kernel("rectify")(n, self.fixed, x, slopes, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy, dx = top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            ops.mul(bottom[0].count, dy, self.slopes.gpu_data(), dx, self.dtype)
