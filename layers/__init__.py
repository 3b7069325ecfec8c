"""One file per prototxt type.  Importing this package registers all of them.

The lists are sorted, one file per line; a test compares them with the folder.
"""

from minicaffe.core.calls import layer_function
from minicaffe.layers import (  # noqa: F401
    absval,
    accuracy,
    argmax,
    batch_norm,
    batch_reindex,
    bias,
    bnll,
    clip,
    concat,
    contrastive_loss,
    convolution,
    crop,
    data,
    deconvolution,
    dropout,
    dummy_data,
    eltwise,
    elu,
    embed,
    euclidean_loss,
    exp,
    filter,
    flatten,
    hdf5_data,
    hdf5_output,
    hinge_loss,
    im2col,
    image_data,
    infogain_loss,
    inner_product,
    input,
    log,
    lrn,
    lstm,
    lstm_unit,
    memory_data,
    multinomial_logistic_loss,
    mvn,
    parameter,
    pooling,
    power,
    prelu,
    python,
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
    window_data,
)
from minicaffe.layers.extensions import (  # noqa: F401
    axpy,
    bn,
    center_loss,
    convolution_depthwise,
    detection_output,
    interp,
    normalize,
    permute,
    prior_box,
    psroi_pooling,
    relu6,
    roi_pooling,
    shuffle_channel,
    smooth_l1_loss,
    upsample,
)
from minicaffe.layers.extensions.faster_rcnn import (  # noqa: F401
    anchor_target_layer,
    proposal_layer,
    proposal_target_layer,
    roi_data_layer,
)


def __getattr__(name: str):
    """`L.Convolution(...)`: with pycaffe's `from caffe import layers as L`, a layer of a `NetSpec`, of any type."""
    if not name[:1].isupper():
        raise AttributeError(f"module 'minicaffe.layers' has no attribute {name!r}")
    return layer_function(name)
