"""Variants of layers for tensor cores: they read and write channels-last arrays (`minicaffe.cuda.channels_last`).

A type without one runs CUDA's own kernels, on the blobs' ordinary copies.
"""

from minicaffe.layers.tensor import (  # noqa: F401  (they register layers)
    activation,
    batch_norm,
    convolution,
    inner_product,
    plumbing,
    pooling,
    scale,
)
