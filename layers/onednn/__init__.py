"""oneDNN variants of layers, registered for engine ONEDNN: the CPU's default where libdnnl is found."""

from minicaffe.layers.onednn import (  # noqa: F401
    batch_norm,
    broadcast,
    convolution,
    dropout,
    elementwise,
    inner_product,
    lrn,
    moves,
    normalize,
    plumbing,
    pooling,
    prelu,
    recurrent,
    scale,
    softmax,
    volumes,
)
