"""LargeMarginInnerProduct: scores of classes with an angular margin (L-Softmax)."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.margin_product import MarginProduct


@register("LargeMarginInnerProduct")
class LargeMarginInnerProduct(MarginProduct):
    """y = x w^T; for the label l: (lambda x w_l^T + |x| |w_l| psi(cos t)) / (1 + lambda), t the angle of x and w_l.

    As MarginInnerProduct, with the lengths of the weights, and with the derivatives as gradients.
    Bottoms: x (M..., K...), labels, one for each sample.  Tops: y (M..., num_output); optionally lambda, (1).
    Blobs: w (num_output, K).
    largemargin_inner_product_param: the fields of margin_inner_product_param.
    Source: Liu, Wen, Yu and Yang, Large-Margin Softmax Loss, 2016.
    """

    fork = "Large-Margin Softmax"
    param_field = "largemargin_inner_product_param"

    @staticmethod
    def describe(layer_param):
        return str(layer_param.largemargin_inner_product_param.num_output)
