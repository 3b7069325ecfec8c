"""Variants of layers for `engine: CUDNN`; a type without one runs minicaffe's own kernels."""

from minicaffe.layers.cudnn import convolution, inner_product  # noqa: F401  (registers their layers)
