"""M2PELU: a rectifier with learned exponentials for negative numbers."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda.kernels import kernel
from minicaffe.layers.shared.broadcast import Broadcast, filled


@register("M2PELU")
class M2PELU(Broadcast):
    """y = max(x, 0) + alpha (exp(beta min(x, 0)) - 1), with alpha and beta for each channel, or one of each for all.

    bottom: (N, C, ...).  top: the same shape; in place if wanted.
    blobs: alpha, beta, each (C), or () with channel_shared.
    m2pelu_param: alpha_filler (constant 1), beta_filler (constant 1), channel_shared (false).
    Source: Li, Fan, Li, Wu and Ming, Improving deep neural network with multiple parametric exponential linear units,
    2016.
    """

    fork = "MPELU"
    param_field = "m2pelu_param"
    family = "activation"
    exact_num_bottom = 1
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        self.param = getattr(self.layer_param, self.param_field)
        self.axis, self.num_axes, self.learned = 1, 0 if self.param.channel_shared else 1, True
        self.terms = Blob((), self.dtype)  # on the device: what is summed to the gradient of a blob

    def param_shapes(self, bottom_shapes):
        self.top_shapes(bottom_shapes)
        shape = self.operand_shape(bottom_shapes)
        return [(shape, filled(self.param, "alpha_filler", 1)), (shape, filled(self.param, "beta_filler", 1))]

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom_shapes[0]}")
        return super().top_shapes(bottom_shapes)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.terms.reshape(bottom[0].count)

    def _of_channels(self):
        """alpha, beta and exp(gamma), 1 without a gamma, each (covered, 1)."""
        alpha, beta, *gamma = (blob.read_data().reshape(-1, 1) for blob in self.blobs)
        return alpha, beta, np.exp(gamma[0]) if gamma else alpha.dtype.type(1)

    def forward_cpu(self, bottom, top):
        x, (alpha, beta, factor) = self.over_axes(bottom[0].read_data()), self._of_channels()
        negative = np.expm1(beta * np.minimum(x, 0)) * (alpha * factor)
        np.add(np.maximum(x, 0), negative, out=self.over_axes(top[0].data))

    def backward_cpu(self, top, propagate_down, bottom):
        x, dy = self.over_axes(bottom[0].read_data()), self.over_axes(top[0].read_diff())
        alpha, beta, factor = self._of_channels()
        below = np.minimum(x, 0)
        grown = np.exp(beta * below)
        if any(self.param_propagate_down):
            of_alpha = self.sum_to_operand(dy * np.expm1(beta * below)) * np.ravel(factor)
            of_beta = self.sum_to_operand(dy * below * grown) * np.ravel(alpha * factor)
            sums = of_alpha, of_beta, of_alpha * np.ravel(alpha)  # alpha exp(gamma) is what the formula has
            for blob, wanted, total in zip(self.blobs, self.param_propagate_down, sums):
                if wanted:
                    blob.diff.reshape(-1)[:] += total
        if propagate_down[0]:
            slope = np.where(x > 0, 1, alpha * factor * beta * grown)
            np.multiply(dy, slope, out=self.over_axes(bottom[0].diff))

    def forward_gpu(self, bottom, top):
        self._run("forward", bottom[0].count, bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        n, x, dy = bottom[0].count, bottom[0].gpu_data(), top[0].gpu_diff()
        for index, learns in enumerate(self.param_propagate_down):
            if learns:
                terms = self.terms.mutable_gpu_data()
                self._run("terms", n, index, x, dy, terms)
                self.sum_to_operand_gpu(True, terms, 0, self.blobs[index].mutable_gpu_diff())
        if propagate_down[0]:
            self._run("backward", n, x, dy, bottom[0].mutable_gpu_diff())

    def _run(self, name, n, *arguments):
        blobs = [*(blob.gpu_data() for blob in self.blobs), 0][:3]
        kernel("extensions/m2pelu", name, self.dtype)(n, self.covered, self.inner, *blobs, *arguments)
