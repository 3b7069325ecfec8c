"""Reshape: another shape for the same numbers."""

import math

from minicaffe.core.registry import register
from minicaffe.layers.shared.views import SharesMemory


@register("Reshape")
class Reshape(SharesMemory):
    """y = x, with axes `axis` to `axis + num_axes - 1` replaced by `shape`.

    bottom: any shape; top: as many numbers; it shares the bottom's memory.

    reshape_param: shape { dim: ... }, where 0 copies the bottom's length and one -1 is computed from the
    count; axis (0; -1 is after the last axis, so that dims are appended), num_axes (-1: all from `axis` on).
    """

    @staticmethod
    def describe(layer_param):
        return f"({', '.join(map(str, layer_param.reshape_param.shape.dim))})"

    def setup(self, bottom, top):
        param = self.layer_param.reshape_param
        self.dims, self.axis, self.num_axes = tuple(param.shape.dim), param.axis, param.num_axes
        if self.dims.count(-1) > 1 or min(self.dims, default=0) < -1:
            raise self.error(f"dims must be 0 or more, and at most one -1, got {list(self.dims)}")
        if self.num_axes < -1:
            raise self.error(f"num_axes must be -1 (all that follow) or more, got {self.num_axes}")

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        start = self.axis if self.axis >= 0 else len(shape) + self.axis + 1
        end = len(shape) if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= end <= len(shape):
            raise self.error(f"axis {self.axis} and num_axes {self.num_axes} reach beyond bottom 0 {shape}")
        middle = []
        for i, dim in enumerate(self.dims):
            if dim == 0 and start + i >= len(shape):
                raise self.error(f"dim {i} is 0 (copy), but bottom 0 {shape} has no axis {start + i}")
            middle.append(shape[start + i] if dim == 0 else dim)
        new = [*shape[:start], *middle, *shape[end:]]
        if -1 in middle:
            rest = -math.prod(new)
            new[start + middle.index(-1)] = math.prod(shape) // rest if rest else 0
        if math.prod(new) != math.prod(shape):
            raise self.error(f"bottom 0 {shape} holds {math.prod(shape)} numbers, which do not fit the shape {new}")
        return [tuple(new)]
