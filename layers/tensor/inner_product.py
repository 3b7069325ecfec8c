"""InnerProduct behind layers that compute in channels-last arrays."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.layers.tensor.base import TensorLayer


@register("InnerProduct", engine="TENSOR")
class TensorInnerProduct(TensorLayer, InnerProduct):
    __doc__ = InnerProduct.__doc__

    bf16_use = "reads"  # its bottom is converted; it computes in float32, or TF32, as the losses behind it do

    def expressible(self, bottom, top):
        return len(bottom) == 1

    active = False  # type: ignore[assignment]  # it has no other kernels
