"""Nets in the form of the public ports of YOLO: losses, gradients of all layers, and what they find after training."""

import numpy as np
import pytest

import minicaffe
from helpers import yolo_nets
from helpers.yolo import as_rows, overlap

CLASSES, SHAPE = 3, (2, 3, 48, 48)
#: two boxes of each image: class, x, y, width, height
SCENE = np.array([
    [[0, 0.3, 0.3, 0.4, 0.35], [2, 0.75, 0.7, 0.3, 0.4]],
    [[1, 0.5, 0.25, 0.6, 0.3], [0, 0.2, 0.8, 0.3, 0.3]],
])  # fmt: skip


def scene():
    """Noise with bright rectangles, of the channel of their class."""
    data = 0.1 * np.random.default_rng(0).standard_normal(SHAPE)
    for image, boxes in enumerate(SCENE):
        for label, x, y, width, height in boxes:
            top, left, bottom, right = (
                int(48 * each) for each in (y - height / 2, x - width / 2, y + height / 2, x + width / 2)
            )
            data[image, int(label), top:bottom, left:right] += 1
    return data


def cells():
    """The scene as labels of YOLO v1."""
    side = yolo_nets.CELLS
    labels = np.zeros((2, 7, side * side))
    for image, boxes in enumerate(SCENE):
        for label, x, y, width, height in boxes:
            cell = int(y * side) * side + int(x * side)
            labels[image, 1, cell], labels[image, 2, cell] = 1, label
            labels[image, 3:].reshape(-1)[4 * cell : 4 * cell + 4] = x, y, width, height
    return labels.reshape(2, -1)


def padded():
    """The scene as AnnotatedData gives it with yolo_data_type 1, but for fewer rows."""
    return np.pad(SCENE, [(0, 0), (0, 2), (0, 0)])[:, None]


def annotated():
    """The scene as AnnotatedData gives it without, but for two more rows of -1."""
    return np.concatenate([as_rows(padded()), np.full((1, 1, 2, 8), -1.0)], axis=2)


NETS = {
    "yolov1": (yolo_nets.yolov1, cells, {}, 0.002),
    "yolo9000": (yolo_nets.yolo9000, annotated, {}, 0.02),
    "yolov3": (yolo_nets.yolov3, padded, {}, 0.02),
    "yolov3_giou": (yolo_nets.yolov3, padded, dict(iou_loss="GIOU", iou_normalizer=0.5), 0.005),
}


def build(name):
    make, labels, options, rate = NETS[name]
    minicaffe.set_random_seed(1)
    net = minicaffe.Net(make(SHAPE, CLASSES, **options), phase=minicaffe.TRAIN)
    net.blobs["data"].data[...], net.blobs["label"].data[...] = scene(), labels()
    return net, rate


def train(net, rate, iterations):
    losses, speed = [], [np.zeros(blob.shape) for blob in net.learnable_params]
    for _ in range(iterations):
        net.clear_param_diffs()
        losses.append(net.forward_backward())
        for blob, moving, lr in zip(net.learnable_params, speed, net.lr_mults):
            moving[...] = 0.9 * moving + rate * lr * blob.diff
            blob.data[...] -= moving
    return losses


@pytest.mark.parametrize("name", NETS)
def test_every_layer_learns_and_the_loss_falls(name, engine):
    net, rate = build(name)
    losses = train(net, rate / 10, 1)
    for blobs in net.params.values():
        for blob in blobs:
            assert np.isfinite(blob.diff).all()
    without = [layer for layer, blobs in net.params.items() if not any(blob.diff.any() for blob in blobs)]
    assert [net.layer_dict[each].type for each in without] == ["BatchNorm"] * len(without)
    losses += train(net, rate / 10, 10)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0], losses


@pytest.mark.parametrize("name", NETS)
def test_the_boxes_that_it_learned_are_found(name):
    make, labels, _, _ = NETS[name]
    net, rate = build(name)
    losses = train(net, rate, 120)
    test = minicaffe.Net(make(SHAPE, CLASSES, found=True), phase=minicaffe.TRAIN)  # with the statistics of the batch
    test.share_with(net)
    test.blobs["data"].data[...], test.blobs["label"].data[...] = scene(), labels()
    found = test.forward()["eval_det" if name == "yolov1" else "detection_out"]
    if name == "yolov1":
        rows = found[:, CLASSES:].reshape(2, -1, 4)
        assert rows[:, :, 2].sum() == 4, losses[::20]
        assert rows[rows[:, :, 2] == 1, 1].min() > rows[rows[:, :, 3] == 1, 1].max(initial=0)
        return
    for image, boxes in enumerate(SCENE):
        best = [row for row in found[0, 0] if row[0] == image][:2]
        for label, *box in boxes:
            own = [row for row in best if row[1] == label + 1]
            assert own, (losses[::20], best)
            x1, y1, x2, y2 = own[0][3:]
            assert overlap([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], box) > 0.6
