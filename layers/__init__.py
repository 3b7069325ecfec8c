"""One file per prototxt type.  Importing this package registers all of them.

The lists are sorted, one file per line; a test compares them with the folder.
"""

from minicaffe.layers import (  # noqa: F401
    absval,
    accuracy,
    argmax,
    batch_norm,
    batch_reindex,
    bias,
    bnll,
    broadcast,
    clip,
    concat,
    contrastive_loss,
    convolution,
    convolution_base,
    correlation,
    crop,
    deconvolution,
    dropout,
    dummy_data,
    elementwise,
    eltwise,
    elu,
    embed,
    euclidean_loss,
    exp,
    filter,
    flatten,
    hinge_loss,
    im2col,
    infogain_loss,
    inner_product,
    input,
    log,
    loss,
    lrn,
    lstm,
    lstm_unit,
    multinomial_logistic_loss,
    mvn,
    parameter,
    pool_windows,
    pooling,
    power,
    prelu,
    python,
    recurrent,
    reduction,
    relu,
    reshape,
    rnn,
    scale,
    sigmoid,
    sigmoid_cross_entropy_loss,
    silence,
    slice,
    softmax,
    softmax_loss,
    split,
    spp,
    swish,
    tanh,
    threshold,
    tile,
    window,
)
from minicaffe.layers.extensions import (  # noqa: F401
    axpy,
    center_loss,
    permute,
    relu6,
    shuffle_channel,
    smooth_l1_loss,
)


def __getattr__(name: str):
    """`L.Convolution(...)`: with pycaffe's `from caffe import layers as L`, a layer of a `NetSpec`, of any type."""
    if not name[:1].isupper():
        raise AttributeError(f"module 'minicaffe.layers' has no attribute {name!r}")
    from minicaffe.net_spec import layer_function

    return layer_function(name)
