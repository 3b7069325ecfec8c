"""InnerDistance: the distances of vectors from those of a table, as InnerProduct is their products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.loss import class_labels
from minicaffe.layers.shared.unit_rows import normalize_rows, normalize_rows_gpu

_TILE = 16  # side of the tiles of the kernel `distances`


@register("InnerDistance")
class InnerDistance(Layer):
    """y[m, n] = |x_m - w_n|^2, or with distance_type "L1" the sum of |x_m - w_n|.

    Bottoms: x (M..., K...), flattened from `axis` on; optionally w (N, K), in place of the blob; with
    update_center_only, last, labels, one for each sample of x.  Top: (M..., N).
    Blobs: w (num_output, K), unless it is a bottom.
    inner_distance_param: num_output, weight_filler (constant 0), axis (1), distance_type ("L2"), normalize (false;
    true: each forward pass, in TEST too, scales the stored rows of w to length 1), update_center_only (false; true: w_n
    has a gradient only from samples with the label n).  There is no bias: bias_term and bias_filler have no effect.
    Source: Wang et al., NormFace, 2017.
    """

    fork = "NormFace"
    family = "weights"
    min_bottom, max_bottom = 1, 3
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)
    no_gradient = (2,)

    @staticmethod
    def describe(layer_param):
        return str(layer_param.inner_distance_param.num_output or "")

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return not self.normalize  # else a pass changes the weights

    def setup(self, bottom, top):
        param = self.layer_param.inner_distance_param
        self.center_only = param.update_center_only
        self.stored = len(bottom) == 1 + self.center_only
        self.normalize = param.normalize and self.stored
        if len(bottom) - self.center_only not in (1, 2):
            raise self.error("bottoms are x, optionally the vectors, and with update_center_only the labels")
        if param.transpose:
            raise self.error("transpose must be false")
        if param.distance_type not in ("L1", "L2"):
            raise self.error(f'distance_type must be "L1" or "L2", got "{param.distance_type}"')
        self.absolute = param.distance_type == "L1"
        self.axis = bottom[0].canonical_axis(param.axis)
        self.inputs = bottom[0].count_range(self.axis)
        self.num_output = param.num_output if self.stored else (bottom[1].shape or (0,))[0]
        if self.num_output < 1 or self.inputs < 1:
            raise self.error(f"there must be vectors and numbers in them, got {self.num_output} and {self.inputs}")

    def param_shapes(self, bottom_shapes):
        filler = self.layer_param.inner_distance_param.weight_filler
        return [((self.num_output, self.inputs), filler)] if self.stored else []

    def top_shapes(self, bottom_shapes):
        x, *others = bottom_shapes
        if len(x) <= self.axis or math.prod(x[self.axis :]) != self.inputs:
            raise self.error(f"the vectors have {self.inputs} numbers, got bottom 0 of shape {x}")
        expected = [] if self.stored else [("vectors", self.num_output * self.inputs)]
        if self.center_only:
            expected.append(("labels", math.prod(x[: self.axis])))
        for i, ((what, count), shape) in enumerate(zip(expected, others), 1):
            if math.prod(shape) != count:
                raise self.error(f"bottom {i}, the {what}, must hold {count} numbers, got {shape}")
        return [(*x[: self.axis], self.num_output)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.samples = bottom[0].count // self.inputs

    def macs(self, bottom_shapes, top_shapes):
        return math.prod(top_shapes[0]) * self.inputs

    def _vectors(self, bottom) -> Any:
        """The blob of w."""
        return self.blobs[0] if self.stored else bottom[1]

    def _learns(self, propagate_down) -> bool:
        return self.param_propagate_down[0] if self.stored else propagate_down[1]

    # -- numpy ---------------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        if self.normalize:
            normalize_rows(self.blobs[0])
        x, w = (
            bottom[0].read_data().reshape(-1, self.inputs),
            self._vectors(bottom).read_data().reshape(-1, self.inputs),
        )
        y = top[0].data.reshape(self.samples, self.num_output)
        if self.absolute:
            for n, row in enumerate(w):
                np.abs(x - row).sum(1, out=y[:, n])
            return
        np.matmul(x, w.T, out=y)
        y *= -2
        y += np.einsum("mk,mk->m", x, x)[:, None]
        y += np.einsum("nk,nk->n", w, w)
        np.maximum(y, 0, out=y)

    def backward_cpu(self, top, propagate_down, bottom):
        vectors = self._vectors(bottom)
        x, w = bottom[0].read_data().reshape(-1, self.inputs), vectors.read_data().reshape(-1, self.inputs)
        dy = top[0].read_diff().reshape(self.samples, self.num_output)
        if self._learns(propagate_down):
            of_w = dy
            if self.center_only:
                labels, _ = class_labels(self, bottom[-1].read_data().reshape(-1), self.num_output)
                of_w = dy * (labels[:, None] == np.arange(self.num_output))
            dw = vectors.diff.reshape(w.shape)
            if not self.stored:
                dw[...] = 0
            dw += self._gradient(w, x, of_w.T)
        if propagate_down[0]:
            bottom[0].diff.reshape(x.shape)[...] = self._gradient(x, w, dy)

    def _gradient(self, a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The gradient of rows a, for diffs `share` (rows of a, rows of b) of their distances from rows b."""
        if not self.absolute:
            return 2 * (a * share.sum(1, keepdims=True) - share @ b)
        total = np.zeros_like(a)
        for row, part in zip(b, share.T):
            total += part[:, None] * np.sign(a - row)
        return total

    # -- CUDA ----------------------------------------------------------------------------------------------------------

    def forward_gpu(self, bottom, top):
        if self.normalize:
            normalize_rows_gpu(self.blobs[0], self.dtype)
        x, w, y = bottom[0].gpu_data(), self._vectors(bottom).gpu_data(), top[0].mutable_gpu_data()
        if self.samples:
            grid = (-(-self.num_output // _TILE) * -(-self.samples // _TILE), 1)
            sizes = self.samples, self.num_output, self.inputs
            self.kernel("distances").launch(grid, (_TILE, _TILE, 1), *sizes, self.absolute, x, w, y)

    def backward_gpu(self, top, propagate_down, bottom):
        vectors, samples, n = self._vectors(bottom), self.samples, self.num_output
        x, w, dy = bottom[0].gpu_data(), vectors.gpu_data(), top[0].gpu_diff()
        if self._learns(propagate_down):
            dw, labels = vectors.mutable_gpu_diff(), bottom[-1].gpu_data() if self.center_only else 0
            if not self.stored:
                ops.fill(vectors.count, 0, dw, self.dtype)
            self._gradient_gpu(n, samples, (1, n), labels, (w, x, dy), dw)
        if propagate_down[0]:
            ops.fill(bottom[0].count, 0, bottom[0].mutable_gpu_diff(), self.dtype)
            self._gradient_gpu(samples, n, (n, 1), 0, (x, w, dy), bottom[0].mutable_gpu_diff())

    def _gradient_gpu(
        self, rows: int, others: int, strides: tuple[int, int], labels: int, blobs: tuple, out: int
    ) -> None:
        """Add the gradient of `rows` rows to `out`; strides: those of dy from row to row and from other to other."""
        self.kernel("gradient")(rows * self.inputs, others, self.inputs, *strides, self.absolute, labels, *blobs, out)
