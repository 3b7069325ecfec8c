"""BinaryConvolution: a Convolution whose filters have two values."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.shared.binary_weights import BinaryWeights


@register("BinaryConvolution")
class BinaryConvolution(BinaryWeights, Convolution):
    """The convolution with a[o] sign(w[o]) in place of the weights w[o]; sign(0) = 1.

    bottoms, tops and blobs: as Convolution's; the blob of weights holds w, which the solver updates.

    The gradient of w is that of the filters that were used, passed on unchanged (straight through).

    convolution_param: as Convolution's.
    binary_convolution_param: use_alpha false (true: a[o] = mean of |w[o]|, else 1); use_binarization true (false: an
        ordinary convolution).
    Source: Rastegari et al., XNOR-Net, 2016; Cai, He, Sun and Vasconcelos, Half-wave Gaussian Quantization, 2017.
    """

    param_of_binary = "binary_convolution_param"
    more_params = ("binary_convolution_param",)
