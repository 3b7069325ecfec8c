"""Base class of the variants of layers for tensor cores.

A variant is the layer's class with this mixin before it: it inherits parameters, shapes and checks, and runs the
type's own kernels where its bottoms are not in channels-last arrays.

    @register("ReLU", engine="TENSOR")
    class TensorReLU(TensorLayer, ReLU):
        def forward_tensor(self, bottom, top): ...
        def backward_tensor(self, top, propagate_down, bottom): ...
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.settings import BF16
from minicaffe.cuda import channels_last, context
from minicaffe.cuda.channels_last import Array, Layout


class TensorLayer(Layer):
    """Runs `forward_tensor` and `backward_tensor`, or the type's own code.

    ran: whether the last forward pass was `forward_tensor`, or that of a group of fused layers; None before any.
    """

    #: what the layer does with arrays where `expressible`, see `Layer.bf16_blobs`; in TF32 they are of float32
    bf16_use = "writes"
    native = False
    ran: bool | None = None

    def expressible(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> bool:
        """Whether there are kernels for these parameters and shapes; called after each reshape."""
        return True

    def forward_tensor(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops."""
        raise NotImplementedError

    def backward_tensor(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Compute the diffs of bottoms and parameters."""
        raise NotImplementedError

    @property
    def bf16_blobs(self) -> str:
        return self.bf16_use if self.native else ""

    @property
    def active(self) -> bool:
        """Whether forward passes run `forward_tensor` now."""
        return self.native and self.bf16_bottom and context.allows_tf32()

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        shaped = all(blob.count and blob.num_axes >= 2 for blob in (*bottom, *top))
        self.native = shaped and self.expressible(bottom, top)

    def forward_gpu(self, bottom, top):
        self.ran = self.active
        if self.ran:
            self.forward_tensor(bottom, top)
        else:
            super().forward_gpu(bottom, top)

    def backward_gpu(self, top, propagate_down, bottom):
        if self.active if self.ran is None else self.ran:
            self.backward_tensor(top, propagate_down, bottom)
        else:
            super().backward_gpu(top, propagate_down, bottom)

    # -- arrays ----------------------------------------------------------------------------------------------------

    def layout(self, blob: Blob) -> Layout:
        """The layout in which the layer reads and writes a blob."""
        return channels_last.layout_of(blob.shape, self.precision == BF16)

    def data(self, blob: Blob) -> Array:
        """A blob's values, for reading."""
        return channels_last.read(blob.data_memory, self.layout(blob))

    def diff(self, blob: Blob) -> Array:
        """A blob's diff, for reading."""
        return channels_last.read(blob.diff_memory, self.layout(blob))

    def mutable_data(self, blob: Blob) -> Array:
        """An array for a blob's new values."""
        return channels_last.write(blob.data_memory, self.layout(blob))

    def mutable_diff(self, blob: Blob) -> Array:
        """An array for a blob's new diff."""
        return channels_last.write(blob.diff_memory, self.layout(blob))
