"""MarginInnerProduct: SphereFace's scores of classes, with an angular margin (A-Softmax)."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.margin_product import MarginProduct


@register("MarginInnerProduct")
class MarginInnerProduct(MarginProduct):
    """y = x w^T; for the label l: (lambda x w_l^T + |x| psi(cos t)) / (1 + lambda), t the angle between x and w_l.

    Bottoms: x (M..., K...), labels, one for each sample.  Tops: y (M..., num_output); optionally lambda, (1).
    Blobs: w (num_output, K); each forward pass, in TEST too, scales its stored rows to length 1.

    psi(cos t) = (-1)^k cos(m t) - 2 k, with k = floor(m t / pi).
    lambda = max(base (1 + gamma iteration)^-power, lambda_min); iteration counts forward passes, in TRAIN and TEST.
    margin_inner_product_param: num_output, type (SINGLE: m is 1; DOUBLE 2, TRIPLE 3, QUADRUPLE 4), weight_filler
    (constant 0), axis (1), base (1), gamma (0), power (1), iteration (0), lambda_min (0).

    The gradients are the original's, not the derivative: w gets dy^T x, without the margin; x gets for its label
    dy (a w_l + b x) / ((1 + lambda) sqrt(a^2 + b^2)) + dy lambda w_l / (1 + lambda), where a w_l + b x is the
    derivative of |x| psi.
    Source: Liu et al., SphereFace, 2017.
    """

    fork = "SphereFace"
    unit_weights = True
    param_field = "margin_inner_product_param"

    @staticmethod
    def describe(layer_param):
        return str(layer_param.margin_inner_product_param.num_output)
