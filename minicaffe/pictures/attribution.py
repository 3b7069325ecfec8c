"""Which parts of an image the score of a class depends on: class activation maps, Grad-CAM and saliency.

    CAM        M(i, j) = sum_k w_k A_k(i, j), of the blob A behind which an average over all positions and a linear
               layer with the weights w_k of the class follow.
               Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning Deep Features for Discriminative Localization, 2016.
    Grad-CAM   M(i, j) = max(0, sum_k a_k A_k(i, j)), a_k = mean over (i, j) of dS / dA_k(i, j), of any blob A
               (N, K, h, w).  Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
               Localization, 2017.
    saliency   M(i, j) = max_c |dS / dI_c(i, j)|, of the input I.
               Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks, 2014.

S is the score of the class before Softmax.  Where CAM applies, Grad-CAM of the same blob is max(0, CAM) / (h w).

The net has run forward on a batch of one image, and was built by `differentiable`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from minicaffe.core.net import Net
from minicaffe.core.sharing import Sharing
from minicaffe.errors import UsageError, nearest
from minicaffe.proto import caffe_pb2, read_net

_TOLERANCE = 1e-3  # relative, of sums in another order


def differentiable(model: str | os.PathLike) -> caffe_pb2.NetParameter:
    """Return the net of a prototxt with `force_backward`, so that gradients go to its input; errors of `read_net`."""
    param = read_net(os.fspath(model))
    param.force_backward = True
    return param


@dataclass(frozen=True)
class Scores:
    """The class scores of a net: the index of the layer that computes them, the name of their blob, their number."""

    layer: int
    blob: str
    count: int


def find_scores(net: Net) -> Scores:
    """Return the class scores of a net: its first output, before Softmax.

    UsageError when they are not one vector: (1, C) or (1, C, 1, 1).
    """
    name = net.outputs[0]
    layer = _maker(net, name, len(net.layers))
    while layer > 0 and net.layers[layer].type in ("Softmax", "Split"):
        name = net.names_of_bottoms[layer][0]
        layer = _maker(net, name, layer)
    shape = net.blobs[name].shape
    if len(shape) < 2 or shape[1] != net.blobs[name].count or shape[1] < 2:
        raise UsageError(f"show: expected the scores of classes for one image, (1, C), but blob '{name}' is {shape}")
    return Scores(layer, name, shape[1])


def _maker(net: Net, blob: str, before: int) -> int:
    """Return the index of the last layer before `before` that writes a blob; -1 for a blob that no layer writes."""
    return next((i for i in range(before - 1, -1, -1) if blob in net.names_of_tops[i]), -1)


def class_of(scores: Scores, net: Net, wanted: str | None, labels: list[str] | None) -> int:
    """Return the index of a class given by index or name; None: that of the highest score.

    UsageError for an unknown name, and for an index that the scores do not have.
    """
    if wanted is None:
        return int(net.blobs[scores.blob].read_data().ravel().argmax())
    if labels and wanted in labels:
        return labels.index(wanted)
    if not wanted.isdecimal():
        hint = nearest(wanted, labels) if labels else "; names are those of --labels FILE"
        raise UsageError(f"--class: there is no class '{wanted}'{hint}")
    if int(wanted) >= scores.count:
        raise UsageError(f"--class: expected a class from 0 to {scores.count - 1}, got {wanted}")
    return int(wanted)


# -- gradients ---------------------------------------------------------------------------------------------------------


def gradient(net: Net, scores: Scores, target: int, blob: str) -> np.ndarray:
    """Return dS / dA of the score S of class `target` for a blob A, as layers that work in place have left it.

    UsageError for a blob that the score does not depend on.
    """
    net.share_memory(Sharing.NEVER)
    leads = _layers_between(net, scores, blob)
    if not leads:
        raise UsageError(f"show: the scores '{scores.blob}' do not depend on blob '{blob}'")
    for i in leads:
        if not any(net.bottom_need_backward[i]):
            raise UsageError(f"show: layer '{net.layer_names[i]}' has no backward pass, or the net no force_backward")
        for changed in (*net.bottoms[i], *net.tops[i]):
            changed.clear_diff()
    net.blobs[scores.blob].diff.reshape(-1)[target] = 1
    for i in reversed(leads):
        net.backward_from_to(i, i)
    net.settle()
    return net.blobs[blob].read_diff().copy()


def _layers_between(net: Net, scores: Scores, blob: str) -> list[int]:
    """Return the indices of the layers through which the scores depend on the last value of a blob, in order."""
    reached, depend = {blob}, []
    for i in range(_maker(net, blob, len(net.layers)) + 1, scores.layer + 1):
        if reached & set(net.names_of_bottoms[i]):
            reached |= set(net.names_of_tops[i])
            depend.append(i)
    needed, leads = {scores.blob}, []
    for i in reversed(depend):
        if needed & set(net.names_of_tops[i]):
            needed |= set(net.names_of_bottoms[i])
            leads.append(i)
    return leads[::-1]


# -- maps --------------------------------------------------------------------------------------------------------------


def saliency(net: Net, scores: Scores, target: int) -> np.ndarray:
    """Return the saliency map (H, W) of the net's first input; UsageError when that has no height and width."""
    name = net.inputs[0]
    if net.blobs[name].num_axes != 4:
        raise UsageError(f"--saliency: expected an input (N, C, H, W), but '{name}' is {net.blobs[name].shape}")
    return np.abs(gradient(net, scores, target, name)[0]).max(0)


def grad_cam(net: Net, scores: Scores, target: int, blob: str) -> np.ndarray:
    """Return the Grad-CAM (h, w) of a blob; UsageError for a blob without height and width."""
    if blob not in net.blobs:
        raise UsageError(f"show: the net has no blob '{blob}'{nearest(blob, net.blobs)}")
    if net.blobs[blob].num_axes != 4:
        raise UsageError(f"--cam: expected a blob (N, K, h, w), but '{blob}' is {net.blobs[blob].shape}")
    weights = gradient(net, scores, target, blob)[0].mean((1, 2))
    return np.maximum(np.tensordot(weights, net.blobs[blob].read_data()[0], 1), 0)


def cam(net: Net, scores: Scores, target: int) -> np.ndarray:
    """Return the class activation map (h, w) of the blob of `cam_blob`; UsageError for a net without one."""
    blob = cam_blob(net, scores)
    if blob is None:
        raise UsageError("--cam: a class activation map needs an average over all positions before the scores")
    rows = _rows(net, scores)
    assert rows is not None  # `cam_blob` has compared them
    return np.tensordot(rows[target], net.blobs[blob].read_data()[0], 1)


def cam_blob(net: Net, scores: Scores) -> str | None:
    """Return the blob whose means over all positions the layer of the scores reads; None if there is none.

    That is found by its numbers: the means are what the layer reads, and its weights make the scores of them.
    """
    rows = _rows(net, scores)
    if rows is None or len(net.bottoms[scores.layer]) != 1:
        return None
    name = net.names_of_bottoms[scores.layer][0]
    vector, i = net.blobs[name].read_data().ravel(), scores.layer
    while net.blobs[name].count == vector.size and len(net.names_of_bottoms[i]) == 1:
        i = _maker(net, name, i)
        if i < 0 or not net.bottoms[i]:
            return None
        name = net.names_of_bottoms[i][0]
    maker = _maker(net, name, i)
    if maker >= 0 and net.layers[maker].type == "Split":
        name = net.names_of_bottoms[maker][0]
    blob = net.blobs[name]
    if blob.num_axes != 4 or rows.shape[1] != vector.size or blob.shape[1] != vector.size:
        return None
    layer, values = net.layers[scores.layer], net.blobs[scores.blob].read_data().ravel()
    bias = layer.blobs[1].read_data() if len(layer.blobs) > 1 else 0
    same = _close(blob.read_data()[0].mean((1, 2)), vector) and _close(rows @ vector + bias, values)
    return name if same else None


def _rows(net: Net, scores: Scores) -> np.ndarray | None:
    """Return the weights (C, K) of the layer of the scores; None if it has no such weights."""
    layer = net.layers[scores.layer]
    if not layer.blobs or not layer.blobs[0].count or layer.blobs[0].count % scores.count:
        return None
    weights = layer.blobs[0].read_data()
    return weights.T if getattr(layer, "transpose", False) else weights.reshape(scores.count, -1)


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() <= _TOLERANCE * np.abs(other).max())


def last_convolution(net: Net, scores: Scores) -> str:
    """Return the blob of the last layer with weights that the scores depend on and that has height and width.

    UsageError for a net without one.
    """
    for i in range(scores.layer - 1, -1, -1):
        if net.layers[i].family == "weights" and net.tops[i]:
            name, shape = net.names_of_tops[i][0], net.tops[i][0].shape
            if len(shape) == 4 and shape[2] * shape[3] > 1 and _layers_between(net, scores, name):
                return name
    raise UsageError("--cam: no convolution with height and width leads to the scores")
