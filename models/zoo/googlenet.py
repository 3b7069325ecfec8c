"""GoogLeNet (Szegedy et al., "Going deeper with convolutions", 2014)."""

from __future__ import annotations

from minicaffe.models.zoo.blocks import XAVIER, classify, conv_relu, finish, inputs, max_pool
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P

# name: channels of 1x1; (reduction, 3x3); (reduction, 5x5); projection after pooling
_INCEPTIONS = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}


def _inception(n: NetSpec, name: str, bottom):
    """Four branches over one bottom, concatenated."""
    one, (reduce3, three), (reduce5, five), project = _INCEPTIONS[name]
    stem = f"inception_{name}"
    a = conv_relu(n, f"{stem}/1x1", bottom, one, 1)
    b = conv_relu(n, f"{stem}/3x3", conv_relu(n, f"{stem}/3x3_reduce", bottom, reduce3, 1), three, 3, pad=1)
    c = conv_relu(n, f"{stem}/5x5", conv_relu(n, f"{stem}/5x5_reduce", bottom, reduce5, 1), five, 5, pad=2)
    pooled = max_pool(n, f"{stem}/pool", bottom, 3, 1, pad=1)
    d = conv_relu(n, f"{stem}/pool_proj", pooled, project, 1)
    n[f"{stem}/output"] = L.Concat(a, b, c, d)
    return n[f"{stem}/output"]


def _side_loss(n: NetSpec, name: str, bottom, classes: int) -> None:
    """An auxiliary classifier, whose loss has weight 0.3."""
    n[f"{name}/ave_pool"] = L.Pooling(bottom, pool=P.Pooling.AVE, kernel_size=5, stride=3)
    x = conv_relu(n, f"{name}/conv", n[f"{name}/ave_pool"], 128, 1)
    n[f"{name}/fc"] = L.InnerProduct(x, num_output=1024, **XAVIER)
    n[f"{name}/relu_fc"] = L.ReLU(n[f"{name}/fc"], in_place=True)
    n[f"{name}/drop_fc"] = L.Dropout(n[f"{name}/relu_fc"], in_place=True, dropout_ratio=0.7)
    score = classify(n, f"{name}/classifier", n[f"{name}/drop_fc"], classes)
    n[f"{name}/loss"] = L.SoftmaxWithLoss(score, n.label, loss_weight=0.3)


def googlenet(batch: int = 32, size: int = 224, classes: int = 1000, training: bool = True):
    """GoogLeNet: 6,998,552 parameters, and 13,378,280 with the two auxiliary classifiers of training."""
    n = NetSpec()
    inputs(n, (batch, 3, size, size), training)
    x = conv_relu(n, "conv1/7x7_s2", n.data, 64, 7, pad=3, stride=2)
    n["pool1/norm1"] = L.LRN(max_pool(n, "pool1/3x3_s2", x, 3, 2), local_size=5, alpha=1e-4, beta=0.75)
    x = conv_relu(n, "conv2/3x3", conv_relu(n, "conv2/3x3_reduce", n["pool1/norm1"], 64, 1), 192, 3, pad=1)
    n["conv2/norm2"] = L.LRN(x, local_size=5, alpha=1e-4, beta=0.75)
    x = max_pool(n, "pool2/3x3_s2", n["conv2/norm2"], 3, 2)
    for name in _INCEPTIONS:
        if name in ("4a", "5a"):
            x = max_pool(n, f"pool{int(name[0]) - 1}/3x3_s2", x, 3, 2)
        x = _inception(n, name, x)
        if training and name in ("4a", "4d"):
            _side_loss(n, f"loss{1 if name == '4a' else 2}", x, classes)
    n["pool5/7x7_s1"] = L.Pooling(x, pool=P.Pooling.AVE, global_pooling=True)
    n["pool5/drop_7x7_s1"] = L.Dropout(n["pool5/7x7_s1"], in_place=True, dropout_ratio=0.4)
    return finish(n, classify(n, "loss3/classifier", n["pool5/drop_7x7_s1"], classes), "GoogLeNet", training)
