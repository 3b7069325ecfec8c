"""Convolution, InnerProduct or Eltwise with the ReLU behind them as a post-operation."""

from __future__ import annotations

from minicaffe.layers.fused.onednn_chain import Chain
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg
from minicaffe.proto.caffe_pb2 import EltwiseParameter


class WithReLU(Chain):
    """Convolution or InnerProduct and ReLU; each runs backward by itself, for ReLU only looks at its top."""

    def forward_fused(self):
        self.first.forward_onednn(self.bottom, self.top, self.post())


class ConvolutionReLU(WithReLU):
    types = ("Convolution", "ReLU")

    @classmethod
    def fits(cls, net, layers):
        return len(layers[0].blobs) and len(net.bottoms[net.layers.index(layers[0])]) == 1


class InnerProductReLU(WithReLU):
    types = ("InnerProduct", "ReLU")


class SumReLU(Chain):
    """Eltwise sum of two bottoms and ReLU."""

    types = ("Eltwise", "ReLU")

    @classmethod
    def fits(cls, net, layers):
        return layers[0].operation == EltwiseParameter.SUM and list(layers[0].coeffs) == [1.0, 1.0]

    def make(self, desc):
        return primitives.binary(Alg.ADD, desc, desc, desc, post=self.post())

    def forward_fused(self):
        x = layouts.data(self.bottom[0])
        add = self.first.plan(self.make, x.desc)
        other = layouts.data(self.bottom[1], x.desc)
        self.first.execute(add, Arg.SRC, x, Arg.SRC_1, other, Arg.DST, layouts.mutable_data(self.top[0], x.desc))
