"""Slice, Crop and Permute by oneDNN's reorders, between parts of memory or between orders of the axes.

A reorder costs no more than a copy in row-major order, and takes the values from the layout in which they are: nothing
is converted first.
"""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.crop import Crop
from minicaffe.layers.extensions.permute import Permute
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.slice import Slice
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Arg, OneDNNError
from minicaffe.onednn.tensors import like, plain, strided, submemory


class OneDNNParts(OneDNNLayer):
    """Each top is a part of bottom 0, of the top's shape; a subclass gives the offsets at which the parts begin."""

    reads_blobs_only = True
    offsets: list[tuple[int, ...]]
    covers = False  #: whether the parts together are all of the bottom

    def make_forward(self, whole, *shapes):
        return [primitives.reorder(part, like(whole, part.shape)) for part in self.parts(whole, shapes)]

    def make_backward(self, whole, *descs):
        parts = self.parts(whole, [desc.shape for desc in descs])
        return [primitives.reorder(desc, part) for desc, part in zip(descs, parts, strict=True)]

    def parts(self, whole, shapes):
        """The parts as layouts within `whole`; raise OneDNNError if two would share a block of channels."""
        if whole.padded:
            raise OneDNNError("the padding must stay zero")
        return [submemory(whole, shape, offset) for shape, offset in zip(shapes, self.offsets, strict=True)]

    def forward_onednn(self, bottom, top):
        x, shapes = layouts.data(bottom[0]), [t.shape for t in top]
        try:
            copies = self.plan(self.make_forward, x.desc, *shapes)
        except OneDNNError:
            x = layouts.data(bottom[0], plain(bottom[0].shape))
            copies = self.plan(self.make_forward, x.desc, *shapes)
        for t, copy in zip(top, copies, strict=True):
            self.execute(copy, Arg.SRC, x, Arg.DST, layouts.mutable_data(t, copy.desc(Arg.DST)))

    def backward_onednn(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dys = [layouts.diff(t) for t in top]
        whole, descs = like(dys[0].desc, bottom[0].shape), [dy.desc for dy in dys]
        try:
            copies = self.plan(self.make_backward, whole, *descs)
        except OneDNNError:
            whole = plain(bottom[0].shape)
            copies = self.plan(self.make_backward, whole, *descs)
        dx = layouts.mutable_diff(bottom[0], whole)
        if not self.covers:
            dx.buffer[:] = 0
        for dy, copy in zip(dys, copies, strict=True):
            self.execute(copy, Arg.SRC, dy, Arg.DST, dx)


@register("Slice", engine="ONEDNN")
class OneDNNSlice(OneDNNParts, Slice):
    __doc__ = Slice.__doc__
    covers = True

    def expressible(self, bottom, top):
        return len(top) > 1

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.offsets, start = [], 0
        for t in top:
            self.offsets.append(tuple(start if axis == self.axis else 0 for axis in range(t.num_axes)))
            start += t.shape[self.axis]


@register("Crop", engine="ONEDNN")
class OneDNNCrop(OneDNNParts, Crop):
    __doc__ = Crop.__doc__

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.offsets = [tuple(cut.start for cut in self.cut)]

    def backward_onednn(self, top, propagate_down, bottom):
        super().backward_onednn(top, propagate_down, bottom)
        if propagate_down[1]:
            bottom[1].clear_diff()


@register("Permute", engine="ONEDNN")
class OneDNNPermute(OneDNNLayer, Permute):
    __doc__ = Permute.__doc__
    reads_blobs_only = True

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if not self.native:
            return
        self.layout = plain(bottom[0].shape)  # of the bottom in the last forward pass
        strides, shape = [1] * top[0].num_axes, top[0].shape
        for axis in reversed(range(len(shape) - 1)):
            strides[axis] = strides[axis + 1] * shape[axis + 1]
        order = self.order(len(shape))
        #: the top in row-major order, as a layout of the bottom's shape
        self.turned = strided(bottom[0].shape, tuple(strides[order.index(axis)] for axis in range(len(shape))))

    def make_forward(self, desc):
        return primitives.reorder(desc, self.turned)

    def make_backward(self, desc):
        return primitives.reorder(self.turned, desc)

    def forward_onednn(self, bottom, top):
        x = layouts.data(bottom[0])
        turn, self.layout = self.plan(self.make_forward, x.desc), x.desc
        self.execute(turn, Arg.SRC, x, Arg.DST, layouts.mutable_data(top[0], plain(top[0].shape)))

    def backward_onednn(self, top, propagate_down, bottom):
        if propagate_down[0]:
            turn, dy = self.plan(self.make_backward, self.layout), layouts.diff(top[0], plain(top[0].shape))
            self.execute(turn, Arg.SRC, dy, Arg.DST, layouts.mutable_diff(bottom[0], self.layout))
