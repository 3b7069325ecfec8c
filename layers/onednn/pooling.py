"""Pooling by oneDNN: output sizes that Caffe rounds up become padding at the far side."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.pooling import Pooling
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.tensors import Tensor, any_layout

_MOST_SPATIAL_AXES = 3


@register("Pooling", engine="ONEDNN")
class OneDNNPooling(OneDNNLayer, Pooling):
    __doc__ = Pooling.__doc__
    bf16_use = "passes"

    def expressible(self, bottom, top):
        """Whether it is MAX or AVE without mask, no window is wholly outside, and oneDNN has the divisor of means."""
        window, shape, out = self.window(bottom[0].shape), bottom[0].shape[2:], top[0].shape[2:]
        if self.pool == "STOCHASTIC" or len(top) > 1 or set(window.dilation) != {1} or len(shape) > _MOST_SPATIAL_AXES:
            return False
        sizes = zip(out, window.stride, shape, window.pad, strict=True)
        starts_inside = all((o - 1) * s < n + p for o, s, n, p in sizes)
        # Caffe's divisor counts padding but not elements beyond it; oneDNN's counts both or neither
        beyond_padding = any(high > pad for high, pad in zip(self.far_padding(bottom, top), window.pad, strict=True))
        divides_alike = not (beyond_padding and (any(window.pad) or self.whole))
        return starts_inside and (self.pool == "MAX" or divides_alike)

    def far_padding(self, bottom, top) -> tuple[int, ...]:
        """The number of elements by which the last window along each axis extends beyond the bottom."""
        window = self.window(bottom[0].shape)
        sizes = zip(top[0].shape[2:], bottom[0].shape[2:], window.kernel, window.stride, window.pad, strict=True)
        return tuple((o - 1) * s + k - n - p for o, n, k, s, p in sizes)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if not self.native:
            return
        window = self.window(bottom[0].shape)
        self.alg = Alg.POOLING_MAX
        if self.pool == "AVE":
            self.alg = Alg.POOLING_AVG_WITH_PADDING if any(window.pad) else Alg.POOLING_AVG_WITHOUT_PADDING
        self.geometry = (window.stride, window.kernel, window.pad, self.far_padding(bottom, top))
        self.top_shape, self.bottom_shape = top[0].shape, bottom[0].shape
        self.layout = self.workspace = None  # of the last forward pass

    def make_forward(self, desc):
        return primitives.pooling(self.alg, desc, any_layout(self.top_shape, desc.dtype), *self.geometry)

    def make_backward(self, desc):
        hint = self.make_forward(desc)
        return primitives.pooling_backward(self.alg, desc, hint.desc(Arg.DST), *self.geometry, hint)

    def forward_onednn(self, bottom, top):
        x = self.data(bottom[0])
        pool = self.plan(self.make_forward, x.desc)
        notes = pool.desc(Arg.WORKSPACE)
        if notes is not None and (self.workspace is None or self.workspace.desc is not notes):
            self.workspace = Tensor(notes)
        y = layouts.mutable_data(top[0], pool.desc(Arg.DST))
        self.layout = x.desc
        self.execute(pool, Arg.SRC, x, Arg.DST, y, Arg.WORKSPACE, self.workspace)

    def backward_onednn(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.layout is None:
            self.forward_onednn(bottom, top)
        backward = self.plan(self.make_backward, self.layout)
        dy = layouts.diff(top[0], backward.desc(Arg.DIFF_DST))
        dx = layouts.mutable_diff(bottom[0], backward.desc(Arg.DIFF_SRC))
        self.execute(backward, Arg.DIFF_DST, dy, Arg.WORKSPACE, self.workspace, Arg.DIFF_SRC, dx)
