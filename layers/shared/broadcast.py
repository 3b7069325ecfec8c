"""The base of Scale, Bias and PReLU: an operand that covers some axes of the bottom and is broadcast over the others.

The covered axes are consecutive, so the bottom is viewed as (outer, covered, inner).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob, canonical_axis
from minicaffe.core.layer import Layer, Shape
from minicaffe.proto.caffe_pb2 import FillerParameter


def filled(param, name: str, value: float) -> FillerParameter:
    """Return the filler `name` of a message, constant `value` where it is absent."""
    return getattr(param, name) if param.HasField(name) else FillerParameter(type="constant", value=value)


class Broadcast(Layer):
    """Finds the axes that the operand covers, and sums over the others.

    Bottoms: x; optionally the operand, whose shape must be that of x from `axis` on.  Without it the operand is
    learned, with the shape of `num_axes` axes of x from `axis` on (-1: all of them; 0: one number).
    """

    family = "normalization"
    keeps_coordinates = True
    min_bottom, max_bottom = 1, 2
    partial: Blob | None = None  #: partial sums on the device
    exact_num_top = 1
    in_place = True

    def read_axes(self, param, bottom) -> None:
        """Read `axis` and `num_axes` of a ScaleParameter or BiasParameter; set whether the operand is learned."""
        self.axis, self.num_axes, self.learned = param.axis, param.num_axes, len(bottom) == 1
        if self.num_axes < -1:
            raise self.error(f"num_axes must be -1 (all that follow), 0 (one number) or more, got {self.num_axes}")

    def operand_shape(self, bottom_shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the operand; raise LayerError if it does not fit x."""
        x = bottom_shapes[0]
        if not self.learned:
            shape, count = bottom_shapes[1], len(bottom_shapes[1])
            axis = canonical_axis(self.axis, len(x)) if count else 0
            if x[axis : axis + count] != shape:
                raise self.error(f"bottom 1 must have the shape of bottom 0 {x} from axis {axis} on, got {shape}")
            return shape
        axis = canonical_axis(self.axis, len(x)) if self.num_axes else 0
        end = len(x) if self.num_axes == -1 else axis + self.num_axes
        if end > len(x):
            raise self.error(f"axis {axis} and num_axes {self.num_axes} reach beyond the axes of bottom 0 {x}")
        return x[axis:end]

    def top_shapes(self, bottom_shapes):
        self.operand_shape(bottom_shapes)
        return bottom_shapes[:1]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        shape = bottom[0].shape
        covered = self.operand_shape([b.shape for b in bottom])
        for blob in self.blobs:
            if blob.shape != covered:
                raise self.error(f"the learned blobs are {blob.shape}, but bottom 0 {shape} asks for {covered}")
        axis = canonical_axis(self.axis, len(shape)) if covered else 0
        self.outer, self.covered = math.prod(shape[:axis]), math.prod(covered)
        self.inner = math.prod(shape[axis + len(covered) :])
        #: the operand's shape with an axis of 1 for each that it does not cover
        self.spread = (*(1 for _ in shape[:axis]), *covered, *(1 for _ in shape[axis + len(covered) :]))

    def over_axes(self, array: np.ndarray) -> np.ndarray:
        """Return an array of the bottom's shape as (outer, covered, inner)."""
        return array.reshape(self.outer, self.covered, self.inner)

    def sum_to_operand(self, array: np.ndarray) -> np.ndarray:
        """Sum an array of the bottom's shape over the axes that are not covered; return (covered,)."""
        return self.over_axes(array).sum(axis=2).sum(axis=0)

    def launch_rows(self, name: str, *arguments: int) -> None:
        """Launch a kernel of cuda/broadcast.cu, whose threads are arranged in rows, over all of x."""
        rows, lanes = self.outer * self.covered, self._lanes
        if rows * self.inner:
            blocks = min(-(-rows * lanes // 256), 1 << 20)
            chunks = max(1, min(2048 // blocks, -(-self.inner // lanes)))  # several blocks for a row if there are few
            self.kernel(name).launch((blocks, chunks), 256, rows, self.covered, self.inner, lanes, *arguments)

    def sum_to_operand_gpu(self, add: bool, dy: int, x: int, out: int, negative: bool = False) -> None:
        """`sum_to_operand` on the device: of dy * x, of dy * min(x, 0) if `negative`, of dy if x is 0 (no pointer).

        add: whether to add to `out` instead of overwriting it.
        """
        length, lanes = self.outer * self.inner, self._lanes
        threads = 256 if length > 128 else max(lanes, 32)
        parts = max(1, min(512 // max(self.covered, 1), length // 4096))  # several blocks for a sum if there are few
        if self.partial is None or self.partial.count < parts * self.covered:
            self.partial = Blob((parts * self.covered,), self.dtype)
        if self.covered:
            partial = self.partial.mutable_gpu_data()
            self.kernel("partial_sums").launch(
                (self.covered, parts), threads, self.outer, self.covered, self.inner, lanes, dy, x, negative, partial
            )
            self.kernel("total")(self.covered, parts, partial, add, out)

    @property
    def _lanes(self) -> int:
        """How many threads share a row of `inner` numbers: a power of two, at most a block."""
        return min(256, 1 << max(self.inner - 1, 0).bit_length())

    @classmethod
    def kernel_file(cls):
        return "broadcast"
