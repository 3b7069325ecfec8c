"""Convolution and Deconvolution by tensor cores."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.cuda import channels_last, context
from minicaffe.cuda.channels_last import Array
from minicaffe.cuda.tensor import TensorCorrelation
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.deconvolution import Deconvolution
from minicaffe.layers.shared.convolution_base import ConvolutionBase
from minicaffe.layers.shared.normalizer import ALONE
from minicaffe.layers.tensor import channels
from minicaffe.layers.tensor.base import TensorLayer


class TensorConvolutionBase(TensorLayer, ConvolutionBase):
    """Reads any blobs, and writes arrays; weights are packed once after each change."""

    tensor: TensorCorrelation | None = None

    def setup(self, bottom, top):
        super().setup(bottom, top)
        sizes = self.oriented(self.channels, self.num_output)
        if self.axis == 1 and self.num_spatial and not TensorCorrelation.unfit(self.window, self.group, *sizes):
            math = "bf16" if self.precision == "bf16" else "tf32"
            self.tensor = TensorCorrelation(self.window, self.group, math)
            self.prepared: tuple = ()

    def expressible(self, bottom, top):
        return self.tensor is not None

    @property
    def active(self) -> bool:
        return self.native and context.allows_tf32()

    def prepare_tensor(self, bottom, top) -> TensorCorrelation:
        """The products, for the shapes of these blobs."""
        assert self.tensor is not None
        shapes = self.oriented(bottom[0].shape, top[0].shape)
        if self.prepared != shapes:
            self.tensor.prepare(*shapes)
            self.prepared = shapes
        return self.tensor

    def packed(self, weights=None) -> Array:
        """The packed weights of the layer, or those of another blob; after `prepare_tensor`."""
        tensor = self.tensor
        assert tensor is not None
        key = "packed", tensor.math, self.window, self.group, *(shape[1:] for shape in self.prepared)
        memory = (weights or self.blobs[0]).data_memory
        return channels_last.read_made(memory, key, tensor.packed_bytes, tensor.pack)

    def forward_tensor(self, bottom, top):
        multiply, _ = self.products(self.prepare_tensor(bottom, top))
        for b, t in zip(bottom, top, strict=True):
            multiply(self.data(b), self.packed(), self.mutable_data(t), self.bias_gpu())

    def backward_tensor(self, top, propagate_down, bottom):
        tensor = self.prepare_tensor(bottom, top)
        _, multiply = self.products(tensor)
        for b, t, wanted in zip(bottom, top, propagate_down, strict=True):
            if any(self.param_propagate_down):
                self.add_gradients(tensor, b, t)
            if wanted:
                multiply(self.diff(t), self.packed(), self.mutable_diff(b))

    def add_gradients(self, tensor: TensorCorrelation, bottom, top) -> None:
        """Add to the diffs of weights and bias."""
        dy = self.diff(top)
        db = self.blobs[1].mutable_gpu_diff() if self.bias_term and self.param_propagate_down[1] else 0
        if self.param_propagate_down[0]:
            within = db if not self.transposed else 0  # the product adds the narrow blob's diffs
            operands = self.oriented(self.data(bottom), dy)
            tensor.weight_gradient(*operands, self.blobs[0].mutable_gpu_diff(), within)
            db = 0 if within else db
        if db:
            channels.gradient_sums(self.layout(top), dy, dy, (0, 0), ALONE, db, 0, 0)


@register("Convolution", engine="TENSOR")
class TensorConvolution(TensorConvolutionBase, Convolution):
    __doc__ = Convolution.__doc__


@register("Deconvolution", engine="TENSOR")
class TensorDeconvolution(TensorConvolutionBase, Deconvolution):
    __doc__ = Deconvolution.__doc__
