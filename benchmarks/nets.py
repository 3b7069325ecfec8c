"""The nets that are timed, written with NetSpec: each function returns a NetParameter.

Training nets read blobs `data` and `label` and end in `loss`; the others read `data` and end in `prob`.  Weights are
random, for time does not depend on them.
"""

from __future__ import annotations

import functools

from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P

_XAVIER = dict(weight_filler=dict(type="xavier"))
_MSRA = dict(weight_filler=dict(type="msra"))


def _inputs(n: NetSpec, shape: tuple[int, ...], training: bool = True) -> None:
    n.data = L.Input(shape=dict(dim=list(shape)))
    if training:
        n.label = L.Input(shape=dict(dim=[shape[0]]))


def _finish(n: NetSpec, score, name: str, training: bool = True):
    n.score = score
    if training:
        n.loss = L.SoftmaxWithLoss(n.score, n.label)
    else:
        n.prob = L.Softmax(n.score)
    net = n.to_proto()
    net.name = name
    return net


def lenet(batch: int = 64):
    """LeNet on (N, 1, 28, 28): two convolutions, two max poolings, two inner products."""
    n = NetSpec()
    _inputs(n, (batch, 1, 28, 28))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, **_XAVIER)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=50, **_XAVIER)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2)
    n.ip1 = L.InnerProduct(n.pool2, num_output=500, **_XAVIER)
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    return _finish(n, L.InnerProduct(n.relu1, num_output=10, **_XAVIER), "lenet")


def _cifar_conv(bottom, num_output: int):
    return L.Convolution(bottom, kernel_size=5, pad=2, num_output=num_output, **_XAVIER)


def _halve(bottom, pool):
    return L.Pooling(bottom, kernel_size=3, stride=2, pool=pool)


def cifar10_quick(batch: int = 100):
    """cifar10_quick: three convolutions with ReLU, two inner products."""
    n = NetSpec()
    _inputs(n, (batch, 3, 32, 32))
    n.conv1 = _cifar_conv(n.data, 32)
    n.pool1 = _halve(n.conv1, P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.conv2 = _cifar_conv(n.relu1, 32)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.pool2 = _halve(n.relu2, P.Pooling.AVE)
    n.conv3 = _cifar_conv(n.pool2, 64)
    n.relu3 = L.ReLU(n.conv3, in_place=True)
    n.pool3 = _halve(n.relu3, P.Pooling.AVE)
    n.ip1 = L.InnerProduct(n.pool3, num_output=64, **_XAVIER)
    return _finish(n, L.InnerProduct(n.ip1, num_output=10, **_XAVIER), "cifar10_quick")


def cifar10_full(batch: int = 100):
    """cifar10_full: as quick, with LRN within channels after the first two poolings and one inner product."""
    n = NetSpec()
    _inputs(n, (batch, 3, 32, 32))
    norm = dict(local_size=3, alpha=5e-5, beta=0.75, norm_region=P.LRN.WITHIN_CHANNEL)
    n.conv1 = _cifar_conv(n.data, 32)
    n.pool1 = _halve(n.conv1, P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.norm1 = L.LRN(n.relu1, **norm)
    n.conv2 = _cifar_conv(n.norm1, 32)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.pool2 = _halve(n.relu2, P.Pooling.AVE)
    n.norm2 = L.LRN(n.pool2, **norm)
    n.conv3 = _cifar_conv(n.norm2, 64)
    n.relu3 = L.ReLU(n.conv3, in_place=True)
    n.pool3 = _halve(n.relu3, P.Pooling.AVE)
    return _finish(n, L.InnerProduct(n.pool3, num_output=10, **_XAVIER), "cifar10_full")


def cifar10_full_sigmoid_bn(batch: int = 100):
    """cifar10_full with BatchNorm and Sigmoid in the places of LRN and ReLU."""
    n = NetSpec()
    _inputs(n, (batch, 3, 32, 32))
    top = n.data
    for i, (channels, pool) in enumerate(((32, P.Pooling.MAX), (32, P.Pooling.AVE), (64, P.Pooling.AVE)), 1):
        n[f"conv{i}"] = top = _cifar_conv(top, channels)
        if i != 2:
            n[f"pool{i}"] = top = _halve(top, pool)
        n[f"bn{i}"] = top = L.BatchNorm(top)
        n[f"Sigmoid{i}"] = top = L.Sigmoid(top)
        if i == 2:
            n[f"pool{i}"] = top = _halve(top, pool)
    return _finish(n, L.InnerProduct(top, num_output=10, **_XAVIER), "cifar10_full_sigmoid_bn")


# -- residual nets -----------------------------------------------------------------------------------------------------


def _conv_bn(n, name: str, bottom, num_output: int, kernel: int, stride: int = 1, relu: bool = True, **more):
    """Convolution, BatchNorm, Scale and perhaps ReLU, all but the first in place."""
    pad = kernel // 2
    conv = L.Convolution(
        bottom, num_output=num_output, kernel_size=kernel, stride=stride, pad=pad, bias_term=False, **_MSRA, **more
    )
    n[name] = conv
    n[name + "_bn"] = L.BatchNorm(conv, in_place=True)
    n[name + "_scale"] = top = L.Scale(n[name + "_bn"], bias_term=True, in_place=True)
    if relu:
        n[name + "_relu"] = top = L.ReLU(top, in_place=True)
    return top


def _join(n, name: str, left, right):
    n[name] = L.Eltwise(left, right)
    n[name + "_relu"] = L.ReLU(n[name], in_place=True)
    return n[name + "_relu"]


def cifar10_resnet(batch: int = 128, depth: int = 20):
    """The CIFAR-10 ResNet of `depth` = 6 n + 2 layers (He et al., 2015, section 4.2), with projection shortcuts."""
    n = NetSpec()
    _inputs(n, (batch, 3, 32, 32))
    top = _conv_bn(n, "conv1", n.data, 16, 3)
    for stage, channels in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            stride, name = (2 if stage and not block else 1), f"s{stage}b{block}"
            left = top
            if stride == 2:
                left = _conv_bn(n, name + "_skip", top, channels, 1, 2, relu=False)
            right = _conv_bn(n, name + "_a", top, channels, 3, stride)
            right = _conv_bn(n, name + "_b", right, channels, 3, relu=False)
            top = _join(n, name, left, right)
    n.pool = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    return _finish(n, L.InnerProduct(n.pool, num_output=10, **_MSRA), f"cifar10_resnet{depth}")


def resnet50(batch: int = 1):
    """ResNet-50 (He et al., 2015) for inference, (N, 3, 224, 224)."""
    n = NetSpec()
    _inputs(n, (batch, 3, 224, 224), training=False)
    top = _conv_bn(n, "conv1", n.data, 64, 7, 2)
    n.pool1 = top = L.Pooling(top, kernel_size=3, stride=2)
    for stage, (blocks, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 2):
        for block in range(blocks):
            name, stride = f"res{stage}{chr(ord('a') + block)}", (2 if stage > 2 and not block else 1)
            left = top if block else _conv_bn(n, name + "_branch1", top, 4 * channels, 1, stride, relu=False)
            right = _conv_bn(n, name + "_2a", top, channels, 1, stride)
            right = _conv_bn(n, name + "_2b", right, channels, 3)
            right = _conv_bn(n, name + "_2c", right, 4 * channels, 1, relu=False)
            top = _join(n, name, left, right)
    n.pool5 = L.Pooling(top, kernel_size=7, stride=1, pool=P.Pooling.AVE)
    return _finish(n, L.InnerProduct(n.pool5, num_output=1000, **_XAVIER), "resnet50", training=False)


# -- other nets for inference ------------------------------------------------------------------------------------------


def mobilenet(batch: int = 1):
    """MobileNet v1 (Howard et al., 2017): depthwise convolutions as grouped ones."""
    n = NetSpec()
    _inputs(n, (batch, 3, 224, 224), training=False)
    top, channels = _conv_bn(n, "conv1", n.data, 32, 3, 2), 32
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    for i, (wide, stride) in enumerate(plan, 2):
        top = _conv_bn(n, f"conv{i}_dw", top, channels, 3, stride, group=channels)
        top, channels = _conv_bn(n, f"conv{i}_sep", top, wide, 1), wide
    n.pool = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    return _finish(n, L.InnerProduct(n.pool, num_output=1000, **_XAVIER), "mobilenet", training=False)


def _conv_relu(n, name: str, bottom, num_output: int, kernel: int, stride: int = 1):
    n[name] = L.Convolution(
        bottom, num_output=num_output, kernel_size=kernel, stride=stride, pad=kernel // 2, **_XAVIER
    )
    n["relu_" + name] = L.ReLU(n[name], in_place=True)
    return n["relu_" + name]


def _inception(n, name: str, bottom, sizes: tuple[int, ...]):
    one, three_in, three, five_in, five, pool = sizes
    parts = [_conv_relu(n, f"{name}_1x1", bottom, one, 1)]
    parts.append(_conv_relu(n, f"{name}_3x3", _conv_relu(n, f"{name}_3x3_reduce", bottom, three_in, 1), three, 3))
    parts.append(_conv_relu(n, f"{name}_5x5", _conv_relu(n, f"{name}_5x5_reduce", bottom, five_in, 1), five, 5))
    n[f"{name}_pool"] = L.Pooling(bottom, kernel_size=3, stride=1, pad=1)
    parts.append(_conv_relu(n, f"{name}_pool_proj", n[f"{name}_pool"], pool, 1))
    n[f"{name}_output"] = L.Concat(*parts)
    return n[f"{name}_output"]


def googlenet(batch: int = 1):
    """GoogLeNet (Szegedy et al., 2014) without its auxiliary classifiers."""
    n = NetSpec()
    _inputs(n, (batch, 3, 224, 224), training=False)
    norm = dict(local_size=5, alpha=1e-4, beta=0.75)
    n.pool1 = L.Pooling(_conv_relu(n, "conv1", n.data, 64, 7, 2), kernel_size=3, stride=2)
    n.norm1 = L.LRN(n.pool1, **norm)
    n.norm2 = L.LRN(_conv_relu(n, "conv2", _conv_relu(n, "conv2_reduce", n.norm1, 64, 1), 192, 3), **norm)
    n.pool2 = top = L.Pooling(n.norm2, kernel_size=3, stride=2)
    modules = {
        "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "pool3": (),
        "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128), "pool4": (),
        "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
    }  # fmt: skip
    for name, sizes in modules.items():
        if sizes:
            top = _inception(n, "inception_" + name, top, sizes)
        else:
            n[name] = top = L.Pooling(top, kernel_size=3, stride=2)
    n.pool5 = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    return _finish(n, L.InnerProduct(n.pool5, num_output=1000, **_XAVIER), "googlenet", training=False)


TRAINING = {
    "lenet": (lenet, 64),
    "cifar10_quick": (cifar10_quick, 100),
    "cifar10_full": (cifar10_full, 100),
    "cifar10_full_sigmoid_bn": (cifar10_full_sigmoid_bn, 100),
    **{f"cifar10_resnet{depth}": (functools.partial(cifar10_resnet, depth=depth), 128) for depth in (20, 32, 56, 110)},
}
INFERENCE = {"resnet50": resnet50, "googlenet": googlenet, "mobilenet": mobilenet}
