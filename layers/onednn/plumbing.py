"""Concat, Eltwise and Split by oneDNN: blobs are joined and combined in their current layouts."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.concat import Concat
from minicaffe.layers.eltwise import Eltwise
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.split import Split
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg, OneDNNError
from minicaffe.onednn.tensors import Tensor, channels_last, plain, submemory
from minicaffe.proto.caffe_pb2 import EltwiseParameter


def _numbered(memories) -> list:
    """[Arg.MULTIPLE_SRC, memory 0, Arg.MULTIPLE_SRC + 1, memory 1, ...]"""
    return [item for i, memory in enumerate(memories) for item in (Arg.MULTIPLE_SRC + i, memory)]


@register("Concat", engine="ONEDNN")
class OneDNNConcat(OneDNNLayer, Concat):
    __doc__ = Concat.__doc__
    reads_blobs_only = True
    bf16_use = "passes"

    def expressible(self, bottom, top):
        return len(bottom) > 1

    def make_forward(self, *descs):
        return primitives.concat(descs, None, self.axis)

    def make_backward(self, whole, *descs):
        """For each bottom the primitive that copies its part out of the top's diff."""
        start, parts = 0, []
        for desc in descs:
            offsets = [0] * len(desc.shape)
            offsets[self.axis] = start
            parts.append(primitives.reorder(submemory(whole, desc.shape, tuple(offsets)), desc))
            start += desc.shape[self.axis]
        return parts

    def parts_of(self, top, bottom):
        """The top's diff and `make_backward` for it; in row-major order if two bottoms share a block of channels."""
        dy, descs = self.diff(top), [self.data(b).desc for b in bottom]
        try:
            return dy, self.plan(self.make_backward, dy.desc, *descs)
        except OneDNNError:
            dy = layouts.diff(top, plain(dy.desc.shape))
            return dy, self.plan(self.make_backward, dy.desc, *descs)

    def forward_onednn(self, bottom, top):
        xs = [self.data(b) for b in bottom]
        if any(x.desc.padded for x in xs):  # channels that do not fill their blocks cannot be joined block by block
            xs = [layouts.data(b, channels_last(b.shape, self.diff_type)) for b in bottom]
        forward = self.plan(self.make_forward, *(x.desc for x in xs))
        self.execute(forward, *_numbered(xs), Arg.DST, layouts.mutable_data(top[0], forward.desc(Arg.DST)))

    def backward_onednn(self, top, propagate_down, bottom):
        dy, parts = self.parts_of(top[0], bottom)
        for b, part, wanted in zip(bottom, parts, propagate_down, strict=True):
            if wanted:
                self.execute(part, Arg.SRC, dy, Arg.DST, layouts.mutable_diff(b, part.desc(Arg.DST)))


@register("Eltwise", engine="ONEDNN")
class OneDNNEltwise(OneDNNLayer, Eltwise):
    __doc__ = Eltwise.__doc__
    reads_blobs_only = True
    bf16_use = "passes"

    def expressible(self, bottom, top):
        if self.operation == EltwiseParameter.SUM:
            return True
        return len(bottom) == 2 and (self.operation == EltwiseParameter.MAX or self.stable_prod_grad)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.first: Tensor | None = None  # of MAX, in the last forward pass: 1 where bottom 0 is the larger, else 0

    def make_forward(self, desc):
        return primitives.weighted_sum((desc,) * len(self.coeffs), tuple(self.coeffs), desc)

    def make_backward(self, desc, coeff):
        return primitives.eltwise(Alg.LINEAR, desc, desc, coeff, 0.0)

    def make_second(self, desc):
        """Complement of a mask of 0 and 1."""
        return primitives.eltwise(Alg.LINEAR, desc, desc, -1.0, 1.0)

    def make_binary(self, alg, desc):
        return primitives.binary(alg, desc, desc, desc)

    def combine(self, alg, a, b, result):
        """result = a op b, all in one layout."""
        self.execute(self.plan(self.make_binary, alg, a.desc), Arg.SRC, a, Arg.SRC_1, b, Arg.DST, result)

    def forward_of_two(self, bottom, top):
        """Compute the product or the maximum of two bottoms."""
        a = layouts.data(bottom[0])
        b = layouts.data(bottom[1], a.desc)
        largest = self.operation == EltwiseParameter.MAX
        if largest:
            self.first = self.own(a.desc, "first")
            self.combine(Alg.GREATER, a, b, self.first)
        self.combine(Alg.MAX if largest else Alg.MUL, a, b, layouts.mutable_data(top[0], a.desc))

    def backward_of_two(self, top, propagate_down, bottom):
        """dx of a product or a maximum: dy times the other bottom, or times the mask of where this one was taken."""
        if self.operation == EltwiseParameter.MAX and self.first is None:
            self.forward_of_two(bottom, top)
        mask = self.first
        dy = layouts.diff(top[0], mask.desc if mask else None)
        for i in (i for i, wanted in enumerate(propagate_down) if wanted):
            factor = mask or layouts.data(bottom[1 - i], dy.desc)
            if mask and i:
                factor = self.borrow(dy.desc, "second")
                self.execute(self.plan(self.make_second, dy.desc), Arg.SRC, mask, Arg.DST, factor)
            self.combine(Alg.MUL, dy, factor, layouts.mutable_diff(bottom[i], dy.desc))

    def forward_onednn(self, bottom, top):
        if self.operation != EltwiseParameter.SUM:
            return self.forward_of_two(bottom, top)
        first = self.data(bottom[0])
        total = self.plan(self.make_forward, first.desc)
        xs = [first] + [layouts.data(b, first.desc) for b in bottom[1:]]
        self.execute(total, *_numbered(xs), Arg.DST, layouts.mutable_data(top[0], first.desc))

    def backward_onednn(self, top, propagate_down, bottom):
        if self.operation != EltwiseParameter.SUM:
            return self.backward_of_two(top, propagate_down, bottom)
        dy = self.diff(top[0])
        for b, coeff, wanted in zip(bottom, self.coeffs, propagate_down, strict=True):
            if wanted:
                scale = self.plan(self.make_backward, dy.desc, coeff)
                self.execute(scale, Arg.SRC, dy, Arg.DST, layouts.mutable_diff(b, dy.desc))


@register("Split", engine="ONEDNN")
class OneDNNSplit(OneDNNLayer, Split):
    __doc__ = Split.__doc__
    reads_blobs_only = True
    bf16_use = "passes"

    def make_backward(self, desc, count):
        return primitives.weighted_sum((desc,) * count, (1.0,) * count, desc)

    def forward_onednn(self, bottom, top):
        pass  # the data are shared

    def backward_onednn(self, top, propagate_down, bottom):
        if propagate_down[0]:
            first = self.diff(top[0])
            total = self.plan(self.make_backward, first.desc, len(top))
            dys = [first] + [layouts.diff(t, first.desc) for t in top[1:]]
            self.execute(total, *_numbered(dys), Arg.DST, layouts.mutable_diff(bottom[0], first.desc))
