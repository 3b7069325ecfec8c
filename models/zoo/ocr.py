"""Text recognition: convolutions, an LSTM in both directions, and CTC."""

from __future__ import annotations

from typing import Any

from minicaffe.models.zoo.blocks import MSRA, conv_bn, inputs, normalise
from minicaffe.net_spec import NetSpec
from minicaffe.net_spec import layers as L
from minicaffe.net_spec import params as P
from minicaffe.proto import TEST, TRAIN


def words(part: str = "train_test", batch: int = 1):
    """The nets of models/words: a small CRNN (Shi, Bai and Yao, 2017) for pictures (1, 32, 96) of words.

    part: "train_test" reads data/words/{train,test}.txt and ends in `ctc_loss`, and in TEST in `accuracy_letters`, 1 -
        edit distance by length, and `accuracy_words`, the share of words without an error.  "deploy" reads `data`
        (batch, 1, 32, 96) and ends in `labels` (batch, 24, 1, 1), -1 behind the last.
    Class 0 is the blank, 1 to 26 are the letters.
    """
    n, in_train, in_test = NetSpec(), dict(include=dict(phase=TRAIN)), dict(include=dict(phase=TEST))
    if part == "deploy":
        inputs(n, (batch, 1, 32, 96), training=False)
    else:
        n.data, n.label = _rows("test", 100, **in_test)
    n.scaled = L.Power(n.data, scale=1 / 64, shift=-2)
    x = _pooled(n, 1, conv_bn(n, "conv1", n.scaled, 16, 3, pad=1), 2)
    x = _pooled(n, 2, conv_bn(n, "conv2", x, 32, 3, pad=1), 2)
    x = _pooled(n, 3, conv_bn(n, "conv3", x, 64, 3, pad=1), 1)
    x = _pooled(n, 4, conv_bn(n, "conv4", x, 96, 3, pad=1), 1)
    n.conv5 = L.Convolution(x, num_output=96, kernel_h=2, kernel_w=1, bias_term=False, **MSRA)
    x = normalise(n, "conv5", n.conv5, relu=True)
    n.steps = L.Transpose(x, dim=[3, 2, 0, 1])  # (24, 1, N, 96)
    n.sequence = L.Reshape(n.steps, shape=dict(dim=[-1]), axis=0, num_axes=2)  # (24, N, 96)
    n.forwards = _lstm(n.sequence)
    n.turned = L.Reverse(n.sequence)
    n.backwards = _lstm(n.turned)
    n.returned = L.Reverse(n.backwards)
    n.both = L.Concat(n.forwards, n.returned, axis=2)
    n.scores = L.InnerProduct(n.both, num_output=27, axis=2, weight_filler=dict(type="xavier"))
    if part == "deploy":
        n.labels = L.CTCGreedyDecoder(n.scores)
        net = n.to_proto()
    else:
        n.ctc_loss = L.WarpCTCLoss(n.scores, n.label, loss_weight=1)
        n.decoded = L.CTCGreedyDecoder(n.scores, n.label, **in_test)
        n.accuracy_letters, n.accuracy_words = L.Slice(n.decoded, ntop=2, **in_test)
        net = n.to_proto()
        train = NetSpec()
        train.data, train.label = _rows("train", 32, **in_train)
        net.layer.insert(0, train.to_proto().layer[0])
    net.name = "words"
    return net


def _rows(part: str, batch: int, **more: Any):
    return L.HDF5Data(source=f"data/words/{part}.txt", batch_size=batch, shuffle=part == "train", ntop=2, **more)


def _pooled(n: NetSpec, number: int, x, stride_w: int):
    """Add a maximum over 2 rows, and as many columns as the stride."""
    window = dict(kernel_h=2, kernel_w=stride_w, stride_h=2, stride_w=stride_w)
    n[f"pool{number}"] = L.Pooling(x, pool=P.Pooling.MAX, **window)
    return n[f"pool{number}"]


def _lstm(x):
    return L.Lstm(x, num_output=64, weight_filler=dict(type="gaussian", std=0.1), bias_filler=dict(type="constant"))
