"""Scale with a learned factor for each channel, on channels-last arrays."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.scale import Scale
from minicaffe.layers.shared.normalizer import ALONE, Followers
from minicaffe.layers.tensor.base import TensorLayer
from minicaffe.layers.tensor.channels import gradient_sums, normalize


@register("Scale", engine="TENSOR")
class TensorScale(TensorLayer, Scale):
    __doc__ = Scale.__doc__

    def expressible(self, bottom, top):
        shape = bottom[0].shape
        return self.learned and not self.limited and self.covered == shape[1] and self.outer == shape[0]

    def pointers(self) -> tuple[int, int]:
        """The device addresses of factor and term; 0 for a term that it does not have."""
        return tuple([*(blob.gpu_data() for blob in self.blobs), 0][:2])  # type: ignore[return-value]  # of two

    def gradients(self) -> tuple[int, int]:
        """The device addresses of the gradients of term and factor; 0 for one that is not needed."""
        wanted = [*(n and b.mutable_gpu_diff() for b, n in zip(self.blobs, self.param_propagate_down, strict=True)), 0]
        return wanted[1] or 0, wanted[0] or 0

    def forward_tensor(self, bottom, top):
        x = self.data(bottom[0])
        normalize(self.layout(top[0]), x, (0, 0), Followers(*self.pointers()), self.mutable_data(top[0]))

    def backward_tensor(self, top, propagate_down, bottom):
        layout, dy = self.layout(top[0]), self.diff(top[0])
        if any(self.param_propagate_down):
            gradient_sums(layout, self.data(bottom[0]), dy, (0, 0), ALONE, *self.gradients(), 0)
        if propagate_down[0]:
            factor = Followers(self.blobs[0].gpu_data())
            normalize(layout, dy, (0, 0), factor, self.mutable_diff(bottom[0]))
