"""What Convolution and Deconvolution by oneDNN have in common: three primitives, their layouts, and their passes."""

from __future__ import annotations

import math

from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.shared.convolution_base import ConvolutionBase
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import BF16, F32, Arg
from minicaffe.onednn.tensors import Tensor, any_layout, channels_last, plain
from minicaffe.proto import TEST

#: arguments of a primitive: what is multiplied with the weights, and the result
FORWARD, BACKWARD_DATA = (Arg.SRC, Arg.DST), (Arg.DIFF_DST, Arg.DIFF_SRC)
#: multiplications with padding, relative to those without, that outweigh conversions
_PADDING_COSTS = 1.2
#: the least number of channels on either side; with fewer oneDNN's backward pass to the data is slow in channels last
_LEAST_CHANNELS = 16
_NARROW_MAP, _MANY_WEIGHTS = 14, 1 << 19  #: columns, and number of weights, at which the weights' bandwidth counts
WIDE, WEIGHTS, NARROW = range(3)
_BLOCK = 16  #: channels in a block of the library's layouts, with AVX-512


class OneDNNConvolutionBase(OneDNNLayer, ConvolutionBase):
    """A convolution from wide to narrow blobs as three primitives: forward, backward to the data and to the weights.

    Each type states which of the first two computes its top. Shapes and layouts are given as (wide, narrow).
    """

    reads_blobs_only = True

    def expressible(self, bottom, top):
        return self.axis == 1 and 1 <= self.num_spatial <= 3

    def gains_from_bf16(self):
        # for one channel in each group, oneDNN 3.2 has no fast code for the gradients of weights
        return self.blobs[0].shape[1] > 1 or self.phase == TEST

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        out, within = self.blobs[0].shape[:1], self.blobs[0].shape[1:]
        self.grouped = (self.group, out[0] // self.group, *within) if self.group > 1 else (*out, *within)

    def result_type(self, which: int) -> int:
        """The type of a result: WIDE, WEIGHTS or NARROW."""
        wide, narrow = self.oriented(self.diff_type, self.top_type)
        return (wide, F32, narrow)[which]

    def layout(self, which: int, shape: tuple[int, ...], dtype: int, last: bool):
        """The layout of wide blob, weights or narrow blob: the primitive chooses it unless `last`, channels last.

        oneDNN's code for bf16 is 1.5 times as fast with channels last where the channels do not fill their blocks.  But
        with 1x1 kernels and an odd number of channels, oneDNN 3.2's gives wrong sums in maps of 30 places, for example.
        """
        if self.operand_type == BF16:
            odd = any(n % 2 for n in self.grouped[-2 - self.num_spatial : -self.num_spatial])
            wrong = odd and math.prod(self.window.kernel) == 1
            last = shape[1] > _BLOCK and shape[1] % _BLOCK != 0 and not wrong
        return (channels_last if last and which != WEIGHTS else any_layout)(shape, dtype)

    # -- primitives ----------------------------------------------------------------------------------------------------

    def arguments(self, result: int, wide, narrow, bias: bool = False, training: bool = True) -> tuple:
        """The arguments of the primitives: layouts of wide blob, weights, bias and narrow blob, and the geometry.

        result: which of the layouts is of the result, WIDE, WEIGHTS or NARROW.
        The geometry is strides, dilations minus 1, and the paddings before the first and behind the last element.
        """
        geometry = self.geometry(wide, narrow)
        last = training and self.blocks_are_padding(wide, narrow, geometry)
        wide_desc, weights, narrow_desc = (
            self.layout(i, shape, self.result_type(i) if i == result else self.operand_type, last)
            for i, shape in enumerate((wide, self.grouped, narrow))
        )
        return (wide_desc, weights, plain((narrow[1],)) if bias else None, narrow_desc, *geometry)

    def geometry(self, wide, narrow) -> tuple:
        """Strides, dilations minus 1, and the paddings before the first and behind the last element."""
        window = self.window
        behind = tuple(
            (o - 1) * s + e - i - p
            for o, s, e, i, p in zip(narrow[2:], window.stride, window.extent, wide[2:], window.pad, strict=True)
        )
        return (window.stride, tuple(d - 1 for d in window.dilation), window.pad, behind)

    def blocks_are_padding(self, wide, narrow, geometry) -> bool:
        """Whether so much of the library's blocks of channels is padding that training is faster in channels last.

        In blocks, all three passes multiply the padding of both blobs. In channels last, each pass multiplies the
        padding of only one: forward and the gradient of the weights that of the narrow blob, backward to the data that
        of the wide one. The latter does so for all columns of the wide blob; in blocks, for those of the narrow one.
        """
        (_, c, *_, columns_in), (_, o, *_, columns_out) = wide, narrow
        kernel, pad = self.window.kernel, self.window.pad
        few = c <= _LEAST_CHANNELS or o < _LEAST_CHANNELS or math.prod(kernel) == 1
        beyond = any(2 * p > k for p, k in zip(pad, kernel, strict=True))
        if few or beyond or self.group > 1 or self.num_spatial != 2 or self.operand_type != F32:
            return False
        conv = primitives.convolution(any_layout(wide), any_layout(self.grouped), None, any_layout(narrow), *geometry)
        wide_desc, narrow_desc = (conv.desc(arg) for arg in FORWARD)
        assert wide_desc is not None and narrow_desc is not None  # a convolution has both
        c_padded, o_padded = wide_desc.padded_shape[1], narrow_desc.padded_shape[1]
        in_blocks = 3 * c_padded * o_padded * columns_out
        in_channels_last = 2 * c * o_padded * columns_out + o * c_padded * columns_in
        return in_blocks >= _PADDING_COSTS * in_channels_last

    def make_forward(self, wide, narrow, bias: bool = False, post: tuple = (), training: bool = True):
        kernels_of_training = training or not self.gains_from_inference(narrow)
        return primitives.convolution(*self.arguments(NARROW, wide, narrow, bias, training), kernels_of_training, post)

    def gains_from_inference(self, narrow) -> bool:
        """Whether the library's kernels for inference are faster here than those for training, conversions included.

        Both compute the same forward pass. Those for training read and write channels in blocks, which is faster for
        1x1 and depthwise kernels, most of all with a sum as a post-operation. Those for inference have channels last:
        they multiply no padding of blocks, and read many weights faster where the map is narrow.
        """
        if self.num_spatial != 2 or self.operand_type == BF16:
            return True
        out, within = self.grouped[-4:-2]  # of one group
        if out == within == 1 or (self.group == 1 and math.prod(self.window.kernel) == 1):
            return False
        padded = math.prod(-(-channels // _BLOCK) * _BLOCK for channels in (out, within))
        many = math.prod(self.grouped) >= _MANY_WEIGHTS
        return padded >= _PADDING_COSTS * out * within or (many and narrow[-1] < _NARROW_MAP)

    def make_backward_data(self, wide, narrow):
        source, weights, _, *others = self.arguments(WIDE, wide, narrow)
        return primitives.convolution_backward_data(source, weights, *others, self.make_forward(wide, narrow))

    def make_backward_weights(self, wide, narrow, bias: bool):
        hint = self.make_forward(wide, narrow, bias)
        return primitives.convolution_backward_weights(*self.arguments(WEIGHTS, wide, narrow, bias), hint)

    # -- passes --------------------------------------------------------------------------------------------------------

    def weights_as(self, primitive) -> Tensor:
        """The weights in the layout that a primitive needs."""
        return layouts.read(self.blobs[0].data_memory, self.grouped, primitive.desc(Arg.WEIGHTS))

    def convolve(self, conv, bottom, top, weights, bias=None) -> Tensor:
        """Run a primitive of the forward pass; return the top's tensor."""
        (source, target), _ = self.oriented(FORWARD, BACKWARD_DATA)
        x, y = layouts.data(bottom, conv.desc(source)), layouts.mutable_data(top, conv.desc(target))
        self.execute(conv, source, x, Arg.WEIGHTS, weights, Arg.BIAS, bias, target, y)
        return y

    def backward_onednn(self, top, propagate_down, bottom):
        _, make = self.oriented(self.make_forward, self.make_backward_data)
        _, (source, target) = self.oriented(FORWARD, BACKWARD_DATA)
        for b, t, wanted in zip(bottom, top, propagate_down, strict=True):
            if any(self.param_propagate_down):
                self.add_weight_diffs(b, t)
            if wanted:
                conv = self.plan(make, *self.oriented(b.shape, t.shape))
                dy, dx = layouts.diff(t, conv.desc(source)), layouts.mutable_diff(b, conv.desc(target))
                self.execute(conv, source, dy, Arg.WEIGHTS, self.weights_as(conv), target, dx)

    def add_weight_diffs(self, bottom, top):
        """Add to the diffs of weights and bias."""
        raise NotImplementedError

    def weight_gradient(self, bottom, top, bias: bool = False) -> tuple:
        """(dw, db); db, the sum of the narrow blob's diff over all but the channels, is None unless `bias`."""
        conv = self.plan(self.make_backward_weights, *self.oriented(bottom.shape, top.shape), bias)
        of_bottom, of_top = self.oriented(Arg.SRC, Arg.DIFF_DST)
        x, dy = layouts.data(bottom, conv.desc(of_bottom)), layouts.diff(top, conv.desc(of_top))
        dw = self.borrow(conv.desc(Arg.DIFF_WEIGHTS), "dw")
        db = self.borrow(conv.desc(Arg.DIFF_BIAS) if bias else None, "db")
        self.execute(conv, of_bottom, x, of_top, dy, Arg.DIFF_WEIGHTS, dw, Arg.DIFF_BIAS, db)
        return dw, db
