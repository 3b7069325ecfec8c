"""BinaryInnerProduct: an InnerProduct whose weights have two values."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.layers.shared.binary_weights import BinaryWeights


@register("BinaryInnerProduct")
class BinaryInnerProduct(BinaryWeights, InnerProduct):
    """y = x (a sign(w))^T + b, with a number a for each output; sign(0) = 1.

    bottom, top and blobs: as InnerProduct's; the blob of weights holds w, which the solver updates.

    The gradient of w is that of the weights that were used, passed on unchanged (straight through).

    inner_product_param: as InnerProduct's, without transpose.
    binary_inner_product_param: use_alpha false (true: a = mean of |w| of an output's weights, else 1); use_binarization
        true (false: an ordinary InnerProduct).
    Source: Rastegari et al., XNOR-Net, 2016; Cai, He, Sun and Vasconcelos, Half-wave Gaussian Quantization, 2017.
    """

    param_field = "inner_product_param"
    param_of_binary = "binary_inner_product_param"
    more_params = ("binary_inner_product_param",)

    @classmethod
    def kernel_file(cls):
        return InnerProduct.kernel_file()

    def setup(self, bottom, top):
        if self.layer_param.inner_product_param.transpose:
            raise self.error("transpose must be false: each output has a factor for its row of weights")
        super().setup(bottom, top)
