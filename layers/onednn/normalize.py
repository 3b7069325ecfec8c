"""Normalize in SSD's form by oneDNN, with 1x1 convolutions for what sums over channels or is the same for all of them.

    sum over channels of a      convolution of a (N, C, H, W) with weights (1, C, 1, 1)
    r s, for each channel       convolution of r (N, 1, H, W) with weights (C, 1, 1, 1)

oneDNN 3.2 has only reference code for a reduction over channels in blocks, and for an operand (N, 1, H, W) of binary.
"""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.extensions.normalize import Normalize
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.tensors import Tensor, any_layout, plain

_GEOMETRY = (1, 1), (0, 0), (0, 0), (0, 0)  # of a 1x1 convolution


@register("Normalize", engine="ONEDNN")
class OneDNNNormalize(OneDNNLayer, Normalize):
    __doc__ = Normalize.__doc__

    def expressible(self, bottom, top):
        return self.scaled and not (self.across_spatial or self.shared) and bottom[0].num_axes == 4

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if not self.native:
            return
        samples, channels, *places = bottom[0].shape
        self.whole, self.picture = (samples, channels, *places), (samples, 1, *places)
        self.from_one, self.to_one = (channels, 1, 1, 1), (1, channels, 1, 1)
        self.ones_to_one, self.ones_from_one = Blob(self.to_one), Blob(self.from_one)
        self.ones_to_one.data = self.ones_from_one.data = 1
        self.inverse = Tensor(plain(self.picture))  # 1 / |x|

    # -- primitives ----------------------------------------------------------------------------------------------------

    def make_sum(self, desc):
        """The sum over channels; in its own choice of layout for the bottom if that is in row-major order."""
        source = any_layout(self.whole) if desc.plain else desc
        return primitives.convolution(source, any_layout(self.to_one), None, any_layout(self.picture), *_GEOMETRY)

    def make_spread(self, desc, post):
        """A value of each place times one of each channel; `post` gives what follows, in the same layout."""
        post = tuple(("binary", alg, desc) for alg in post)
        return primitives.convolution(plain(self.picture), any_layout(self.from_one), None, desc, *_GEOMETRY, post=post)

    def make_scale_gradient(self, desc):
        args = plain(self.picture), any_layout(self.from_one), None, desc, *_GEOMETRY
        return primitives.convolution_backward_weights(*args, self.make_spread(desc, ()))

    def make_eltwise(self, alg, desc, alpha, beta):
        return primitives.eltwise(alg, desc, desc, alpha, beta)

    def make_product(self, desc):
        return primitives.binary(Alg.MUL, desc, desc, desc)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def sum_channels(self, x: Tensor, weights: Blob, result: Tensor) -> None:
        """result (N, 1, H, W), in row-major order = sum over channels of x times `weights`, a blob of C numbers."""
        add = self.plan(self.make_sum, x.desc)
        sums = self.own(add.desc(Arg.DST), "sums")
        factors = layouts.read(weights.data_memory, self.to_one, add.desc(Arg.WEIGHTS))
        self.execute(add, Arg.SRC, x, Arg.WEIGHTS, factors, Arg.DST, sums)
        to_rows = self.plan(primitives.reorder, sums.desc, result.desc)
        self.execute(to_rows, Arg.SRC, sums, Arg.DST, result)

    def spread(self, picture: Tensor, weights: Blob, result: Tensor, *post) -> None:
        """result = picture (N, 1, H, W) times `weights`, C numbers, then combined with `Alg.X, tensor, ...`."""
        spread = self.plan(self.make_spread, result.desc, post[::2])
        operands = [item for i, b in enumerate(post[1::2]) for item in (Arg.POST_OP * (i + 1) | Arg.SRC_1, b)]
        factors = layouts.read(weights.data_memory, self.from_one, spread.desc(Arg.WEIGHTS))
        self.execute(spread, Arg.SRC, picture, Arg.WEIGHTS, factors, Arg.DST, result, *operands)

    def eltwise(self, alg, x: Tensor, alpha: float, beta: float) -> None:
        """x = f(x)"""
        self.execute(self.plan(self.make_eltwise, alg, x.desc, alpha, beta), Arg.SRC, x, Arg.DST, x)

    def multiply(self, a: Tensor, b: Tensor, result: Tensor) -> None:
        """result = a * b"""
        self.execute(self.plan(self.make_product, a.desc), Arg.SRC, a, Arg.SRC_1, b, Arg.DST, result)

    def read(self, bottom) -> Tensor:
        """x, in a layout in which its channels can be summed."""
        x = layouts.data(bottom)
        return layouts.data(bottom, self.plan(self.make_sum, x.desc).desc(Arg.SRC))

    # -- passes --------------------------------------------------------------------------------------------------------

    def measure(self, x: Tensor) -> None:
        """Compute 1 / |x|."""
        squares = self.borrow(x.desc, "squares")
        self.multiply(x, x, squares)
        self.sum_channels(squares, self.ones_to_one, self.inverse)
        self.eltwise(Alg.LINEAR, self.inverse, 1.0, self.eps)
        self.eltwise(Alg.POW, self.inverse, 1.0, -0.5)

    def forward_onednn(self, bottom, top):
        x = self.read(bottom[0])
        self.measure(x)
        self.spread(self.inverse, self.blobs[0], layouts.mutable_data(top[0], x.desc), Alg.MUL, x)

    def backward_onednn(self, top, propagate_down, bottom):
        """ds = sum of dy x / |x|; dx = s dy / |x| - x (sum over channels of s dy x) / |x|^3"""
        x = self.read(bottom[0])
        dy, products = layouts.diff(top[0], x.desc), self.borrow(x.desc, "squares")
        self.multiply(dy, x, products)
        if self.param_propagate_down[0]:
            gradient = self.plan(self.make_scale_gradient, x.desc)
            ds = self.own(gradient.desc(Arg.DIFF_WEIGHTS), "ds")
            self.execute(gradient, Arg.SRC, self.inverse, Arg.DIFF_DST, products, Arg.DIFF_WEIGHTS, ds)
            self.add_to_diffs(ds)
        if not propagate_down[0]:
            return
        along = self.own(plain(self.picture), "along")
        self.sum_channels(products, self.blobs[0], along)
        for _ in range(3):
            self.multiply(along, self.inverse, along)
        self.eltwise(Alg.LINEAR, along, -1.0, 0.0)
        self.spread(along, self.ones_from_one, products, Alg.MUL, x)
        dx = layouts.mutable_diff(bottom[0], x.desc)
        self.spread(self.inverse, self.blobs[0], dx, Alg.MUL, dy, Alg.ADD, products)
