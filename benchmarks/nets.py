"""The nets that are timed: those of models/, their data replaced by inputs, and those of models/zoo.

Training nets read blobs `data` and `label` and end in `loss`; the others read `data` and end in `prob`; what that last
layer reads is `score`, the top of a layer of that name.  Weights are random, for time does not depend on them.
"""

from __future__ import annotations

import functools
import os

from minicaffe import models
from minicaffe.core.passes import filter_net
from minicaffe.models import zoo
from minicaffe.proto import TRAIN, caffe_pb2, read_net

_DATA = ("Data", "Input")


def from_models(name: str, shape: tuple[int, int, int], batch: int):
    """Return the TRAIN net of models/<name> with (batch, *shape) inputs instead of its database."""
    net = read_net(os.path.join(models.folder(name), "train_test.prototxt"))
    net.state.phase = TRAIN
    layers = [layer for layer in filter_net(net).layer if layer.type not in _DATA]
    timed = caffe_pb2.NetParameter(name=name)
    inputs = timed.layer.add(name="input", type="Input", top=["data", "label"])
    inputs.input_param.shape.add(dim=[batch, *shape])
    inputs.input_param.shape.add(dim=[batch])
    timed.layer.extend(layers)
    return score_named(timed)


def score_named(net):
    """Name the scores, and the layer that makes them, so that all contestants find them."""
    last = net.layer[-1]
    (maker,) = (layer for layer in net.layer if layer.top[0] == last.bottom[0])
    maker.name = maker.top[0] = last.bottom[0] = "score"
    return net


def without_labels(net):
    """Make an inference net of a training net: drop its labels, compute `prob` in place of the loss."""
    for layer in [layer for layer in net.layer if "label" in layer.top]:
        at = list(layer.top).index("label")
        del layer.top[at], layer.input_param.shape[at]
        if not layer.top:
            net.layer.remove(layer)
    loss = net.layer[-1]
    loss.name, loss.type, loss.top[0] = "prob", "Softmax", "prob"
    del loss.bottom[1:]
    return net


def _cifar(name: str):
    return functools.partial(from_models, name, (3, 32, 32)), 100


def _inference(make):
    return lambda batch=1: score_named(make(batch=batch, training=False, size=224))


def ssd300(batch: int = 1):
    """SSD-300: `prob` is the list of boxes that are kept; `score` is the boxes before that."""
    net = score_named(zoo.ssd300(batch))
    net.layer[-1].name = net.layer[-1].top[0] = "prob"
    return net


def ssd300_maps(batch: int = 1):
    """SSD-300 without its prior boxes and DetectionOutput: all that is computed from the picture."""
    net = zoo.ssd300(batch)
    layers = [layer for layer in net.layer if "data" not in layer.bottom[1:]]  # without those that give prior boxes
    del net.layer[:]
    net.layer.extend(layers[: [layer.name for layer in layers].index("mbox_conf") + 1])
    net.layer.add(name="score", type="Concat", bottom=["mbox_loc", "mbox_conf"], top=["score"])
    net.layer.add(name="prob", type="Softmax", bottom=["score"], top=["prob"])
    return net


def unet(batch: int = 1):
    """U-Net on pictures of 572 by 572, without padding, 2 classes."""
    return score_named(zoo.unet(batch, training=False))


def _resnet(depth: int):
    return lambda batch=128: score_named(zoo.cifar_resnet(depth, batch))


#: name: (function of the batch size, the batch size)
TRAINING = {
    "lenet": (functools.partial(from_models, "lenet", (1, 28, 28)), 64),
    **{name: _cifar(name) for name in ("cifar10_quick", "cifar10_full", "cifar10_full_sigmoid_bn")},
    **{f"cifar10_resnet{depth}": (_resnet(depth), 128) for depth in (20, 32, 56, 110)},
}
#: name: function of the batch size
INFERENCE = {
    **{name: _inference(getattr(zoo, name)) for name in ("resnet50", "googlenet", "mobilenet")},
    "ssd300": ssd300,
    "ssd300_maps": ssd300_maps,
    "unet": unet,
}
