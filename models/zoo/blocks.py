"""Building blocks of the nets: inputs, heads, and groups of layers."""

from __future__ import annotations

from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P

XAVIER = dict(weight_filler=dict(type="xavier"))
MSRA = dict(weight_filler=dict(type="msra"))

#: lr_mult and decay_mult of weights and biases, as in the original's examples
WEIGHTS_AND_BIAS = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]


def inputs(n: NetSpec, shape: tuple[int, ...], training: bool) -> None:
    """Add input blob `data` of a shape, and for training `label`, one per sample."""
    n.data = L.Input(shape=dict(dim=list(shape)))
    if training:
        n.label = L.Input(shape=dict(dim=[shape[0]]))


def finish(n: NetSpec, score, name: str, training: bool):
    """Add `loss` or `prob` over the scores; return the NetParameter."""
    if training:
        n.loss = L.SoftmaxWithLoss(score, n.label)
    else:
        n.prob = L.Softmax(score)
    net = n.to_proto()
    net.name = name
    return net


def conv_relu(n: NetSpec, name: str, bottom, num_output: int, kernel: int, filler=XAVIER, **more):
    """Add Convolution `name` with bias, then ReLU in place; return the top."""
    n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel, param=WEIGHTS_AND_BIAS, **filler, **more)
    n[f"relu_{name}"] = L.ReLU(n[name], in_place=True)
    return n[f"relu_{name}"]


def normalise(n: NetSpec, name: str, bottom, relu: bool, in_place: bool = True, **more):
    """Add BatchNorm `bn_name`, Scale `scale_name` with bias, and if `relu` a ReLU; return the top.

    Scale and ReLU work in place, BatchNorm if `in_place`.  more: fields of the BatchNorm.
    """
    n[f"bn_{name}"] = L.BatchNorm(bottom, in_place=in_place, **more)
    n[f"scale_{name}"] = L.Scale(n[f"bn_{name}"], in_place=True, bias_term=True)
    if not relu:
        return n[f"scale_{name}"]
    n[f"relu_{name}"] = L.ReLU(n[f"scale_{name}"], in_place=True)
    return n[f"relu_{name}"]


def conv_bn(n: NetSpec, name: str, bottom, num_output: int, kernel: int, relu: bool = True, **more):
    """Add Convolution `name` without bias, BatchNorm, Scale, and with `relu` a ReLU; return the top."""
    n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel, bias_term=False, **MSRA, **more)
    return normalise(n, name, n[name], relu)


def max_pool(n: NetSpec, name: str, bottom, kernel: int = 2, stride: int = 2, **more):
    """Add max pooling `name`; return the top."""
    n[name] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride, **more)
    return n[name]


def global_average(n: NetSpec, name: str, bottom):
    """Add the mean over all spatial positions, (N, C, 1, 1); return the top."""
    n[name] = L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True)
    return n[name]


def classify(n: NetSpec, name: str, bottom, classes: int):
    """Add InnerProduct `name` with one output per class; return the top."""
    n[name] = L.InnerProduct(bottom, num_output=classes, param=WEIGHTS_AND_BIAS, **XAVIER)
    return n[name]
