"""LSTM, Lstm and RNN whose products with the weights are oneDNN's; the rest of a step is numpy's.

A step multiplies few rows, one for each sequence, by a large matrix that is the same in all steps: in a layout of
oneDNN's choice it is read two to three times as fast as by BLAS, which reorders it in each product.  oneDNN's own LSTM
primitives have no inputs that are the same in all steps, and sequences may begin at any step here.
"""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.extensions.junhyuk_lstm import Lstm
from minicaffe.layers.lstm import LSTM
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.rnn import RNN
from minicaffe.layers.shared.recurrent import Recurrent
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Arg
from minicaffe.onednn.tensors import Tensor, any_layout, plain
from minicaffe.proto import TEST

#: fewer sequences, or weights that fit a cache, are multiplied by BLAS as fast
_FEWEST_SEQUENCES, _FEWEST_WEIGHTS = 8, 1 << 17


class OneDNNRecurrent(OneDNNLayer, Recurrent):
    """Overrides the products of `Recurrent` by weights that it reads more often than it converts them."""

    replayable = False  # between the products numpy computes

    def expressible(self, bottom, top):
        _, sequences = self.sequences_of(bottom[0].shape)
        return sequences >= _FEWEST_SEQUENCES and self.gates * self.size**2 >= _FEWEST_WEIGHTS

    def forward_onednn(self, bottom, top):
        Recurrent.forward_cpu(self, bottom, top)

    def backward_onednn(self, top, propagate_down, bottom):
        Recurrent.backward_cpu(self, top, propagate_down, bottom)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.rows: dict[tuple, Tensor] = {}

    def converts(self, index: int) -> bool:
        """Whether a blob is used several times after each conversion: in all steps, or in all passes."""
        return self.native and (self.phase == TEST or index == self.w_h)

    def make_product(self, rows: int, index: int, add: bool):
        outputs, inputs = self.blobs[index].shape
        post = (("sum", 1.0),) if add else ()
        weights = any_layout((outputs, inputs))
        return primitives.inner_product(plain((rows, inputs)), weights, None, plain((rows, outputs)), False, post)

    def make_gradient(self, rows: int, index: int):
        # as a product: the primitives of gradients are slower for few rows
        weights = self.blobs[index].shape
        return primitives.matmul(plain((rows, weights[0])), any_layout(weights), None, plain((rows, weights[1])))

    def times(self, x, index, y, add=False):
        if not self.converts(index):
            return super().times(x, index, y, add)
        self.multiply(self.plan(self.make_product, len(x), index, add), x, index, y)

    def times_transposed(self, dy, index, dx):
        if not self.converts(index):
            return super().times_transposed(dy, index, dx)
        self.multiply(self.plan(self.make_gradient, len(dy), index), dy, index, dx)

    def multiply(self, product, x, index, y):
        """Run a primitive on two arrays and a blob."""
        weights = layouts.read(self.blobs[index].data_memory, self.blobs[index].shape, product.desc(Arg.WEIGHTS))
        x, y = self.at(product.desc(Arg.SRC), x, "x"), self.at(product.desc(Arg.DST), y, "y")
        self.execute(product, Arg.SRC, x, Arg.WEIGHTS, weights, Arg.DST, y)

    def at(self, desc, array, use) -> Tensor:
        """A tensor of the layer's own, moved to an array: a product is bound once for all steps."""
        tensor = self.rows.get((desc, use))
        if tensor is None:
            tensor = self.rows[desc, use] = Tensor(desc, array)
        tensor.move(array)
        return tensor


@register("LSTM", engine="ONEDNN")
class OneDNNLSTM(OneDNNRecurrent, LSTM):
    __doc__ = LSTM.__doc__


@register("Lstm", engine="ONEDNN")
class OneDNNLstm(OneDNNRecurrent, Lstm):
    __doc__ = Lstm.__doc__


@register("RNN", engine="ONEDNN")
class OneDNNRNN(OneDNNRecurrent, RNN):
    __doc__ = RNN.__doc__
