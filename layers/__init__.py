"""One file per prototxt type.  Importing this package registers all of them.

The lists are sorted, one file per line; a test compares them with the folder.
"""

from minicaffe.layers import (  # noqa: F401
    accuracy,
    batch_norm,
    bias,
    broadcast,
    concat,
    convolution,
    convolution_base,
    correlation,
    deconvolution,
    dropout,
    elementwise,
    eltwise,
    euclidean_loss,
    flatten,
    inner_product,
    loss,
    lrn,
    pool_windows,
    pooling,
    power,
    relu,
    reshape,
    scale,
    sigmoid,
    silence,
    slice,
    softmax,
    softmax_loss,
    split,
    tanh,
    window,
)
