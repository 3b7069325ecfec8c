"""The base of MarginInnerProduct and LargeMarginInnerProduct: products whose score of the label has an angular margin.

psi(c) continues cos(m t), t = arccos(c), so that it falls from 1 at t = 0 to 1 - 2 m at t = pi:
psi = (-1)^k cos(m t) - 2 k, with k = floor(m t / pi).  cos(m t) is a polynomial of c, psi' its derivative.
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.cuda import ops
from minicaffe.layers.shared.loss import class_labels
from minicaffe.layers.shared.rows import add_rows
from minicaffe.layers.shared.unit_rows import normalize_rows, normalize_rows_gpu
from minicaffe.saved import field

_LEAST = 1e-12  #: for the length of a vector of zeros, whose cosine then is 0
_COSINES = {1: [0, 1], 2: [-1, 0, 2], 3: [0, -3, 0, 4], 4: [1, 0, -8, 0, 8]}  # cos(m t): factors of c^0, c^1, ...


def psi(c: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return psi and its derivative at cosines c, for m from 1 to 4."""
    k = sum((c <= math.cos(j * math.pi / m)).astype(c.dtype) for j in range(1, m)) if m > 1 else np.zeros_like(c)
    polynomial = np.polynomial.Polynomial(np.array(_COSINES[m], c.dtype))
    sign = 1 - 2 * (k % 2)
    return sign * polynomial(c) - 2 * k, sign * polynomial.deriv()(c)


class MarginProduct(Layer):
    """y = x w^T for classes other than the sample's label l; y_l = (lambda x w_l^T + |x| |w_l| psi(c)) / (1 + lambda).

    c is the cosine between x and w_l.  lambda = max(base * (1 + gamma * iteration)^-power, lambda_min) falls while
    training: 1 + lambda divides, so a large lambda leaves the plain product.  iteration counts the forward passes of
    this layer, in TRAIN or TEST, from 1 on; a snapshot has it.
    """

    family = "weights"
    exact_num_bottom = 2
    min_top, max_top = 1, 2
    in_place = False
    backward_reads = ("bottom",)
    no_gradient = (1,)
    unit_weights = False  #: whether the stored rows are scaled to length 1, and gradients are SphereFace's

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return False  # a pass changes lambda

    def setup(self, bottom, top):
        param = self.param = getattr(self.layer_param, self.param_field)
        self.num_output, self.m = param.num_output, param.type + 1
        if self.num_output < 1:
            raise self.error("num_output, the number of classes, must be at least 1")
        if not 0 <= param.gamma < math.inf:
            raise self.error(f"gamma must be finite and at least 0, got {param.gamma:g}")
        self.axis = bottom[0].canonical_axis(param.axis)
        self.inputs = bottom[0].count_range(self.axis)
        if not self.inputs:
            raise self.error(f"bottom 0 of shape {bottom[0].shape} has no inputs from axis {self.axis} on")
        self.schedule = Blob((2,), self.dtype)  # iteration, lambda
        self.schedule.data[0] = param.iteration
        self.shares = Blob((), self.dtype)  # d y_l: of w_l and of x for x's gradient, of w_l for w_l's; (3, samples)
        self.scaled = Blob((), self.dtype)  # on the device: the top's diff, of labels times their share of w_l

    def param_shapes(self, bottom_shapes):
        return [((self.num_output, self.inputs), self.param.weight_filler)]

    def top_shapes(self, bottom_shapes):
        x, labels = bottom_shapes
        if len(x) <= self.axis or math.prod(x[self.axis :]) != self.inputs:
            raise self.error(f"the weights were made for {self.inputs} inputs, got bottom 0 of shape {x}")
        if math.prod(labels) != math.prod(x[: self.axis]):
            samples = math.prod(x[: self.axis])
            raise self.error(f"bottom 1 must hold one label for each of the {samples} samples, got {labels}")
        return [(*x[: self.axis], self.num_output), (1,)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.samples = bottom[0].count // self.inputs
        self.shares.reshape(3, self.samples)
        self.scaled.reshape(top[0].shape)

    def macs(self, bottom_shapes, top_shapes):
        return math.prod(top_shapes[0]) * self.inputs

    def state(self):
        return {**super().state(), "iteration": float(self.schedule.read_data()[0])}

    def load_state(self, state):
        super().load_state(state)
        self.load_common_state(state)

    def load_common_state(self, state):
        self.schedule.data[0] = field(state, "iteration")

    @classmethod
    def kernel_file(cls):
        return "margin_product"

    # -- numpy ---------------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        ramp, param = self.schedule.data, self.param
        ramp[0] += 1
        ramp[1] = max(param.base * (1 + param.gamma * float(ramp[0])) ** -param.power, param.lambda_min)
        if self.unit_weights:
            normalize_rows(self.blobs[0], _LEAST)
        x, w = bottom[0].read_data().reshape(self.samples, self.inputs), self.blobs[0].read_data()
        y = top[0].data.reshape(self.samples, self.num_output)
        np.matmul(x, w.T, out=y)
        at = self._at_labels(bottom)
        y[at] = self._with_margin(y[at], _lengths(x), _lengths(w[at[1]]), ramp[1])
        for blob in top[1:]:
            blob.data[...] = ramp[1]

    def _with_margin(self, product, x, w, ramp):
        """Return the scores of the labels from the products; keep the shares.  x, w: lengths."""
        c = np.clip(product / (x * w), -1, 1)
        value, slope = psi(c, self.m)
        along_w, along_x = slope, (value - c * slope) / x
        if self.unit_weights:
            size = np.hypot(along_w, along_x)
            along_w, along_x = along_w / size, along_x / size
        self.shares.data[...] = [along_w + ramp, along_x * w, (value - c * slope) * x / w]
        self.shares.data /= 1 + ramp
        return (ramp * product + x * w * value) / (1 + ramp)

    def _at_labels(self, bottom):
        """The index of the label's score of each sample."""
        labels, _ = class_labels(self, bottom[1].read_data().reshape(-1), self.num_output)
        return np.arange(self.samples), labels

    def backward_cpu(self, top, propagate_down, bottom):
        x, w = bottom[0].read_data().reshape(self.samples, self.inputs), self.blobs[0].read_data()
        dy, at = top[0].read_diff().reshape(self.samples, self.num_output), self._at_labels(bottom)
        of_w, of_x, of_own = self.shares.read_data()
        scaled = dy.copy()
        scaled[at] *= of_w
        if self.param_propagate_down[0]:
            if self.unit_weights:
                self.blobs[0].diff += dy.T @ x
            else:
                self.blobs[0].diff += scaled.T @ x
                add_rows(self.blobs[0].diff, at[1], (dy[at] * of_own)[:, None] * w[at[1]])
        if propagate_down[0]:
            dx = np.matmul(scaled, w, out=bottom[0].diff.reshape(x.shape))
            dx += (dy[at] * of_x)[:, None] * x

    # -- CUDA ----------------------------------------------------------------------------------------------------------

    def forward_gpu(self, bottom, top):
        n, classes, width, param = self.samples, self.num_output, self.inputs, self.param
        ramp = self.schedule.mutable_gpu_data()
        rule = param.base, param.gamma, param.power, param.lambda_min
        self.kernel("advance")(1, *rule, ramp, top[1].mutable_gpu_data() if len(top) > 1 else 0)
        if self.unit_weights:
            normalize_rows_gpu(self.blobs[0], self.dtype, _LEAST)
        x, w, y = bottom[0].gpu_data(), self.blobs[0].gpu_data(), top[0].mutable_gpu_data()
        ops.gemm(False, True, n, classes, width, 1, x, w, 0, y, self.dtype)
        if n:
            margin = self.m, self.unit_weights, _LEAST
            arguments = (*margin, ramp, x, w, bottom[1].gpu_data(), y, self.shares.mutable_gpu_data())
            self.kernel("with_margin").launch((n, 1), 128, n, classes, width, *arguments)

    def backward_gpu(self, top, propagate_down, bottom):
        n, classes, width = self.samples, self.num_output, self.inputs
        x, w, dy, shares = bottom[0].gpu_data(), self.blobs[0].gpu_data(), top[0].gpu_diff(), self.shares.gpu_data()
        labels, scaled = bottom[1].gpu_data(), self.scaled.mutable_gpu_data()
        ops.copy(top[0].count, dy, scaled, self.dtype)
        self.kernel("scale_labels")(n, classes, labels, shares, scaled)
        if self.param_propagate_down[0]:
            dw, used = self.blobs[0].mutable_gpu_diff(), dy if self.unit_weights else scaled
            ops.gemm(True, False, classes, width, n, 1, used, x, 1, dw, self.dtype)
            if not self.unit_weights:
                self.kernel("add_own").launch((classes, 1), 128, n, classes, width, labels, shares, dy, w, dw)
        if propagate_down[0]:
            dx = bottom[0].mutable_gpu_diff()
            ops.gemm(False, False, n, width, classes, 1, scaled, w, 0, dx, self.dtype)
            self.kernel("add_along_x")(n * width, n, classes, width, labels, shares, dy, x, dx)


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.maximum(np.sqrt(np.einsum("nk,nk->n", rows, rows)), rows.dtype.type(_LEAST))
