"""Convolution and Deconvolution by cuDNN."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.cuda import cudnn
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.deconvolution import Deconvolution
from minicaffe.layers.shared.convolution_base import ConvolutionBase


class CuDNNConvolutionBase(ConvolutionBase):
    """Computes the products on the device by cuDNN; the fused groups of CUDA contain these layers, too."""

    def setup(self, bottom, top):
        super().setup(bottom, top)
        if self.on_device and self.num_spatial:
            self.on_device = cudnn.CudnnCorrelation(self.window, self.group, self.dtype)


@register("Convolution", engine="CUDNN")
class CuDNNConvolution(CuDNNConvolutionBase, Convolution):
    __doc__ = Convolution.__doc__


@register("Deconvolution", engine="CUDNN")
class CuDNNDeconvolution(CuDNNConvolutionBase, Deconvolution):
    __doc__ = Deconvolution.__doc__
