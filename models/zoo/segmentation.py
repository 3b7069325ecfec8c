"""Nets for semantic segmentation: FCN-8s (Long et al., 2014) and U-Net (Ronneberger et al., 2015), a small one, too."""

from __future__ import annotations

import numpy as np

from minicaffe.models.zoo.blocks import MSRA, XAVIER, conv_relu, finish, max_pool, normalise
from minicaffe.models.zoo.vgg import vgg_convs
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.proto import TEST, TRAIN


def _inputs(n: NetSpec, batch: int, channels: int, size: int, labels: int, training: bool) -> None:
    n.data = L.Input(shape=dict(dim=[batch, channels, size, size]))
    if training:
        n.label = L.Input(shape=dict(dim=[batch, 1, labels, labels]))


def _upsample(bottom, classes: int, kernel: int, stride: int):
    return L.Deconvolution(
        bottom,
        param=dict(lr_mult=0),
        convolution_param=dict(
            num_output=classes, kernel_size=kernel, stride=stride, bias_term=False, weight_filler=dict(type="bilinear")
        ),
    )


def _score(bottom, classes: int):
    return L.Convolution(bottom, num_output=classes, kernel_size=1, **XAVIER)


def _fuse(n: NetSpec, stage: int, scores, upsampled, offset: int):
    """The scores of a lower stage, cropped to the size of the upsampled ones and added to them."""
    n[f"score_pool{stage}c"] = L.Crop(scores, upsampled, axis=2, offset=offset)
    n[f"fuse_pool{stage}"] = L.Eltwise(upsampled, n[f"score_pool{stage}c"])
    return n[f"fuse_pool{stage}"]


def fcn8s(batch: int = 1, size: int = 500, classes: int = 21, training: bool = True, fc: int = 4096):
    """FCN-8s over VGG-16: 134,489,759 parameters for 21 classes; scores are (N, classes, size, size).

    Call `interpolate` on the net before training from VGG's weights.
    """
    n = NetSpec()
    _inputs(n, batch, 3, size, size, training)
    x = vgg_convs(n, n.data, first_pad=100)
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        x = conv_relu(n, name, x, fc, kernel)
        x = n[f"drop_{name}"] = L.Dropout(x, in_place=True, dropout_ratio=0.5)
    n.score_fr = _score(x, classes)
    n.upscore2 = _upsample(n.score_fr, classes, 4, 2)
    n.score_pool4 = _score(n.pool4, classes)
    n.upscore_pool4 = _upsample(_fuse(n, 4, n.score_pool4, n.upscore2, 5), classes, 4, 2)
    n.score_pool3 = _score(n.pool3, classes)
    n.upscore8 = _upsample(_fuse(n, 3, n.score_pool3, n.upscore_pool4, 9), classes, 16, 8)
    n.score = L.Crop(n.upscore8, n.data, axis=2, offset=31)
    return finish(n, n.score, "FCN-8s", training)


def interpolate(net) -> None:
    """Make each Deconvolution of a net interpolate every class separately, as FCN's authors do before training.

    The filler "bilinear" gives all pairs of classes the same weights; this sets those between different classes to 0.
    """
    for layer in net.layers:
        if layer.type == "Deconvolution":
            weights = layer.blobs[0].data
            weights *= np.eye(*weights.shape[:2])[:, :, None, None]


def unet(batch: int = 1, size: int = 572, classes: int = 2, training: bool = True, width: int = 64):
    """U-Net without padding: each convolution removes a border of 1, so 572 pixels in give 388 out."""
    n = NetSpec()
    _inputs(n, batch, 1, size, _unet_output(size), training)
    x, skips = n.data, []
    for level in range(5):
        for i in (1, 2):
            x = conv_relu(n, f"down{level}_{i}", x, width << level, 3, filler=MSRA)
        if level < 4:
            skips.append(x)
            x = max_pool(n, f"pool{level}", x)
    for level in reversed(range(4)):
        n[f"up{level}"] = L.Deconvolution(
            x, convolution_param=dict(num_output=width << level, kernel_size=2, stride=2, **MSRA)
        )
        n[f"crop{level}"] = L.Crop(skips[level], n[f"up{level}"], axis=2, offset=_unet_offset(size, level))
        x = n[f"joined{level}"] = L.Concat(n[f"crop{level}"], n[f"up{level}"])
        for i in (1, 2):
            x = conv_relu(n, f"up{level}_{i}", x, width << level, 3, filler=MSRA)
    n.score = _score(x, classes)
    return finish(n, n.score, "U-Net", training)


def _unet_sizes(size: int) -> tuple[list[int], list[int]]:
    """Return the widths of the skip connections, and of the upsampled blob at each of them."""
    down = []
    for _ in range(4):
        down.append(size - 4)
        size = (size - 4) // 2
    size -= 4
    up = []
    for _ in range(4):
        up.append(2 * size)
        size = 2 * size - 4
    return down, up[::-1]


def _unet_output(size: int) -> int:
    return _unet_sizes(size)[1][0] - 4


def _unet_offset(size: int, level: int) -> int:
    down, up = _unet_sizes(size)
    return (down[level] - up[level]) // 2


def unet_shapes(part: str = "train_test", width: int = 16):
    """The net of models/unet_shapes: a U-Net of three levels with padding, BatchNorm and Scale.

    part: "train_test" (default) or "deploy", for one picture of 64 x 64.  width: channels of the first level.
    Training reads the pictures and label maps of `minicaffe data shapes --voc --size 64 --dest data/shapes64`.
    """
    n, classes, levels = NetSpec(), 6, 3
    in_test = {} if part == "deploy" else dict(include=dict(phase=TEST))
    if part == "deploy":
        n.data = L.Input(shape=dict(dim=[1, 3, 64, 64]))
    else:
        n.data, n.label = _dense_images("test", 50, **in_test)
    x, skips = n.data, []
    for level in range(levels):
        for i in (1, 2) if level else (1,):
            x = _conv_bn(n, f"down{level}_{i}", x, width << level)
        skips.append(x)
        x = max_pool(n, f"pool{level}", x)
    for i in (1, 2):
        x = _conv_bn(n, f"middle_{i}", x, width << levels)
    for level in reversed(range(levels)):
        up = dict(num_output=width << level, kernel_size=2, stride=2, **MSRA)
        x = n[f"up{level}"] = L.Deconvolution(x, convolution_param=up)
        x = n[f"joined{level}"] = L.Concat(x, skips[level])
        for i in (1, 2) if level else (1,):
            x = _conv_bn(n, f"up{level}_{i}", x, width << level)
    n.score = L.Convolution(x, num_output=classes, kernel_size=1, **MSRA)
    if part == "deploy":
        n.prob = L.Softmax(n.score)
        net = n.to_proto()
    else:
        weights = dict(weight_by_label_freqs=True, class_weighting=[0.8] + [1.5] * (classes - 1))
        n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=weights)
        n.accuracy = L.SegAccuracy(n.score, n.label, **in_test)
        net = n.to_proto()
        train = NetSpec()
        train.data, train.label = _dense_images("train", 16, include=dict(phase=TRAIN))
        net.layer.insert(0, train.to_proto().layer[0])
    net.name = "unet_shapes"
    return net


def _conv_bn(n: NetSpec, name: str, bottom, width: int):
    """A convolution of 3 x 3 with BatchNorm, whose statistics follow the weights within some dozen iterations."""
    n[name] = L.Convolution(bottom, num_output=width, kernel_size=3, pad=1, bias_term=False, **MSRA)
    return normalise(n, name, n[name], relu=True, moving_average_fraction=0.97)


def _dense_images(part: str, batch: int, **more):
    """Return the tops of a layer that reads the pictures and label maps of a part; for training mirrored."""
    training = part == "train"
    folder = "data/shapes64/"
    reading = dict(source=f"{folder}{part}_maps.txt", root_folder=folder, batch_size=batch)
    return L.DenseImageData(
        ntop=2, transform_param=dict(mean_value=[127.0], scale=1 / 64),
        dense_image_data_param=reading | (dict(shuffle=True, mirror=True) if training else {}), **more,
    )  # fmt: skip
