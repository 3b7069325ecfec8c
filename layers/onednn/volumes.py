"""Convolutions and pooling of forks over more than two spatial axes, by oneDNN as those of master."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.extensions.convolution3d import Convolution3D, Deconvolution3D
from minicaffe.layers.extensions.nd_convolution import NdConvolution
from minicaffe.layers.extensions.nd_pooling import NdPooling
from minicaffe.layers.extensions.pooling3d import Pooling3D
from minicaffe.layers.onednn.convolution import OneDNNConvolution, OneDNNDeconvolution
from minicaffe.layers.onednn.pooling import OneDNNPooling


@register("Convolution3D", engine="ONEDNN")
class OneDNNConvolution3D(Convolution3D, OneDNNConvolution):
    __doc__ = Convolution3D.__doc__


@register("Deconvolution3D", engine="ONEDNN")
class OneDNNDeconvolution3D(Deconvolution3D, OneDNNDeconvolution):
    __doc__ = Deconvolution3D.__doc__


@register("NdConvolution", engine="ONEDNN")
class OneDNNNdConvolution(OneDNNConvolution, NdConvolution):
    __doc__ = NdConvolution.__doc__


@register("NdPooling", engine="ONEDNN")
class OneDNNNdPooling(OneDNNPooling, NdPooling):
    __doc__ = NdPooling.__doc__


@register("Pooling3D", engine="ONEDNN")
class OneDNNPooling3D(OneDNNPooling, Pooling3D):
    __doc__ = Pooling3D.__doc__
