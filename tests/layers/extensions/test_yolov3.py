"""Yolov3: which boxes learn from true boxes, and by what steps."""

from math import exp, log

import numpy as np
import pytest

from helpers.yolo import as_rows, box_of, logistic, overlap, true_boxes
from minicaffe.errors import LayerError
from minicaffe.layers.shared.yolo_boxes import Overlap
from minicaffe.proto.caffe_pb2 import Yolov3Parameter
from minicaffe.testing import Case, LayerProperties, assert_close, normal, run_layer

ANCHORS = [(6, 8), (9, 5), (14, 20), (30, 16)]
BIASES = " ".join(f"biases: {side}" for anchor in ANCHORS for side in anchor)
SIZES = "num_class: 3 num: 2 mask: 2 mask: 1 anchors_scale: 8 thresh: 0.4 coord_scale: 1.5 class_scale: 2"


def yolo(text="", sizes=SIZES):
    return f"type: 'Yolov3' loss_weight: 0.5 yolov3_param {{ {sizes} {BIASES} {text} }}"


def boxes(images, most):
    return lambda rng, shape: true_boxes(rng, images, most, 3)


MAP = (3, 16, 4, 5)


class TestProperties(LayerProperties):
    cases = [
        Case(yolo(text), [MAP, (3, 1, 7, 5)], [normal, boxes(3, 6)], gradient=())
        for text in (
            "", "iou_loss: GIOU", "iou_loss: CIOU accumulate: false", "use_focal_loss: true use_logic_gradient: true",
        )
    ]  # fmt: skip


class Expected:
    """The steps of a batch, number by number."""

    def __init__(self, x, labels, kind="MSE", **options):
        self.fields = dict(smooth=0.1, shape=0.5, focal=False, logic=False, accumulate=True, most=10.0) | options
        self.x, self.kind = x, kind
        self.steps, self.missing = np.zeros_like(x), []
        _, _, self.height, self.width = x.shape
        for n, own in enumerate(labels[:, 0]):
            true = [row for row in own.tolist() if row[3]]
            self.background(n, true)
            taken = set()
            for row in true:
                for k in self.learning(row):
                    self.learn(n, k, row, taken)

    def size(self, number):
        return ANCHORS[number][0] / (8 * self.width), ANCHORS[number][1] / (8 * self.height)

    def box(self, n, k, j, i):
        return box_of(self.x[n, 8 * k : 8 * k + 4, j, i], i, j, self.width, self.height, self.size((2, 1)[k]))

    def overlap(self, a, b):
        columns = np.array(a)[:, None], np.array(b)[:, None]
        return (
            overlap(a, b) if self.kind == "MSE" else Overlap(*columns, getattr(Yolov3Parameter, self.kind)).value()[0]
        )

    def background(self, n, true):
        for k, j, i in np.ndindex(2, self.height, self.width):
            best = max([self.overlap(self.box(n, k, j, i), row[1:]) for row in true], default=0)
            self.steps[n, 8 * k + 4, j, i] = 0 if best > 0.4 else logistic(self.x[n, 8 * k + 4, j, i])

    def learning(self, row):
        overlaps = [self.overlap([0, 0, *self.size(a)], [0, 0, *row[3:]]) for a in range(4)]
        best = int(np.argmax(overlaps)) if max(overlaps) > 0 else -1
        return [k for k, a in enumerate((2, 1)) if a == best or self.fields["shape"] < min(overlaps[a], 1)]

    def learn(self, n, k, row, taken):
        label, x, y, width, height = row
        label, i, j = int(label), int(x * self.width), int(y * self.height)
        code, steps = self.x[n, 8 * k : 8 * k + 8, j, i], self.steps[n, 8 * k : 8 * k + 8, j, i]
        size, fields = self.size((2, 1)[k]), self.fields
        if self.kind == "MSE":
            target = x * self.width - i, y * self.height - j, log(width / size[0]), log(height / size[1])
            given = [logistic(code[0]), logistic(code[1]), code[2], code[3]]
            steps[:4] = [1.5 * (2 - width * height) * (a - b) for a, b in zip(given, target)]
        else:
            pair = Overlap(
                *(np.array(b)[:, None] for b in (self.box(n, k, j, i), row[1:])), getattr(Yolov3Parameter, self.kind)
            )
            self.missing.append(1 - pair.value()[0])
            factors = [1, 1, exp(code[2]), exp(code[3])]
            moves = [
                -float(np.clip(0.25 * d * f, -fields["most"], fields["most"]))
                for d, f in zip(pair.slopes()[:, 0], factors)
            ]
            steps[:4] = steps[:4] + moves if fields["accumulate"] else moves
        steps[4] = (logistic(code[4]) - 1) * (7 if fields["logic"] else 1)
        smooth = 0 if fields["focal"] else fields["smooth"]
        p = logistic(code[5 + label])
        factor = -0.5 * (1 - p) * (2 * p * log(p) + p - 1) if fields["focal"] else 1
        if (k, j, i) in taken:
            steps[5 + label] = 2 * (p - (1 - smooth / 2))
            return
        taken.add((k, j, i))
        for c in range(3):
            steps[5 + c] = 2 * (logistic(code[5 + c]) - (1 - smooth / 2 if c == label else smooth / 2)) * factor

    def loss(self):
        counted = self.steps.reshape(len(self.x), 2, 8, -1)[:, :, 0 if self.kind == "MSE" else 4 :]
        return ((counted**2).sum() + 0.25 * np.mean(self.missing or [0])) / len(self.x)

    def gradient(self, weight):
        slope = np.ones_like(self.x)
        if self.fields["logic"]:
            s = 1 / (1 + np.exp(-self.x))
            slope = s * (1 - s)
            slope.reshape(len(self.x), 2, 8, -1)[:, :, 2:4] = 1
        return self.steps * slope * weight / len(self.x)


CASES = {
    "plain": ("", {}),
    "darknet": ("iou_thresh: 1 label_smooth_eps: 0", {"smooth": 0, "shape": 1}),
    "focal": ("use_focal_loss: true", {"focal": True}),
    "logic": ("use_logic_gradient: true object_scale: 7", {"logic": True}),
    "iou": ("iou_loss: IOU", {"kind": "IOU"}),
    "giou": ("iou_loss: GIOU", {"kind": "GIOU"}),
    "diou": ("iou_loss: DIOU iou_thresh: 0.2", {"kind": "DIOU", "shape": 0.2}),
    "ciou": ("iou_loss: CIOU max_delta: 0.5", {"kind": "CIOU", "most": 0.5}),
    "last": ("iou_loss: GIOU accumulate: false", {"kind": "GIOU", "accumulate": False}),
}


def backward(layer, bottom, top, weight):
    top[0].diff[...] = weight
    layer.backward(top, [True, False], bottom)
    return bottom[0].read_diff()


@pytest.mark.parametrize(("text", "options"), CASES.values(), ids=CASES)
def test_steps_and_loss(engine, text, options):
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal(MAP), true_boxes(rng, 3, 9, 3)
    labels[0, 0, 1] = labels[0, 0, 0]  # two boxes at one place
    labels[0, 0, 0, 0], labels[0, 0, 1, 0] = 0, 2
    expected = Expected(x.astype(np.float32).astype(float), labels.astype(np.float32).astype(float), **options)
    layer, bottom, top = run_layer(yolo(text), x, labels, dtype=np.float32)
    assert_close(top[0].read_data(), expected.loss(), rtol=1e-5)
    assert_close(backward(layer, bottom, top, 0.7), expected.gradient(0.7), atol=1e-5)
    assert (expected.steps.reshape(3, 2, 8, -1)[:, :, 4] < 0).sum() > 5


def test_rows_of_annotated_data_are_the_same_boxes(engine):
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal(MAP), true_boxes(rng, 3, 5, 3)
    results = []
    for given in (labels, as_rows(labels)):
        layer, bottom, top = run_layer(yolo(), x, given, dtype=np.float32)
        results.append((top[0].read_data().copy(), backward(layer, bottom, top, 1).copy()))
    for a, b in zip(*results):
        assert_close(a, b)


def test_without_true_boxes(engine):
    x = np.random.default_rng(3).standard_normal(MAP)
    p = 1 / (1 + np.exp(-x.reshape(3, 2, 8, -1)[:, :, 4]))
    for labels in (np.zeros((3, 1, 2, 5)), np.full((1, 1, 1, 8), -1.0)):
        layer, bottom, top = run_layer(yolo("iou_loss: GIOU"), x, labels, dtype=np.float32)
        assert_close(top[0].read_data(), (p**2).sum() / 3)


def test_a_box_at_the_far_edge_belongs_to_the_last_place(engine):
    x, labels = np.zeros(MAP), np.zeros((3, 1, 1, 5))
    labels[0, 0, 0] = [0, 1, 1, 14 / 40, 20 / 32]
    layer, bottom, top = run_layer(yolo(), x, labels, dtype=np.float32)
    assert backward(layer, bottom, top, 1)[0, 4, 3, 4] == np.float32(-0.5 / 3)


# -- overlaps ----------------------------------------------------------------------------------------------------------


def numeric(pair, kind):
    """The derivatives of the overlap for the first boxes."""
    step, result = 1e-6, []
    for k in range(4):
        move = np.zeros_like(pair[0])
        move[k] = step
        high, low = (Overlap(pair[0] + sign * move, pair[1], kind).value() for sign in (1, -1))
        result.append((high - low) / (2 * step))
    return np.array(result)


@pytest.mark.parametrize("kind", ["IOU", "GIOU", "DIOU", "CIOU"])
def test_slopes_of_overlaps(kind):
    rng = np.random.default_rng(0)
    pair = [np.concatenate([rng.uniform(0.2, 0.8, (2, 60)), rng.uniform(0.1, 0.7, (2, 60))]) for _ in range(2)]
    iou, kind = numeric(pair, Yolov3Parameter.IOU), getattr(Yolov3Parameter, kind)
    expected = numeric(pair, min(kind, Yolov3Parameter.DIOU))
    double = expected if kind in (Yolov3Parameter.IOU, Yolov3Parameter.GIOU) else iou
    expected[2:] += double[2:]
    if kind == Yolov3Parameter.CIOU:
        (w, h), (tw, th) = pair[0][2:], pair[1][2:]
        angle = np.arctan(tw / th) - np.arctan(w / h)
        v = 4 / np.pi**2 * angle**2
        alpha = v / (1 - Overlap(*pair).value() + v)
        expected[2:] += alpha * 8 / np.pi**2 * angle * np.stack([h, -w])
        value = Overlap(*pair, Yolov3Parameter.DIOU).value() - alpha * v
        np.testing.assert_allclose(Overlap(*pair, kind).value(), value)
    np.testing.assert_allclose(Overlap(*pair, kind).slopes(), expected, atol=1e-7)


def test_overlaps_of_boxes_without_area():
    point = np.zeros((4, 1))
    for kind in range(5):
        assert Overlap(point, point, kind).value() == 0
        assert np.isfinite(Overlap(point, point, kind).slopes()).all()


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "labels", "words"),
    [
        (yolo(), (3, 15, 4, 5), (3, 1, 1, 5), r"bottom 0 must be \(N, 16, H, W\), 8 numbers for each of 2 anchors"),
        (yolo(), MAP, (2, 1, 1, 5), r"bottom 1 must be true boxes \(3, 1, T, 5\) of 3 images, or rows of boxes"),
        (yolo(sizes="num: 2 mask: 1 mask: 1"), MAP, (3, 1, 1, 5), r"mask must give 2 different anchors, got \[1, 1\]"),
        (yolo(sizes="num: 1 mask: 4"), MAP, (3, 1, 1, 5), "biases must give anchor 4, got 4 anchors, from 0 on"),
        (
            yolo(sizes="num: 1 mask: 1 anchors_scale: 0"),
            MAP,
            (3, 1, 1, 5),
            "num_class and anchors_scale must be at least",
        ),
    ],
)
def test_errors_name_the_layer(text, shape, labels, words):
    with pytest.raises(LayerError, match=f"^Yolov3 layer 'layer': {words}"):
        run_layer(text, np.zeros(shape), np.zeros(labels))


def test_a_class_that_does_not_exist(engine):
    labels = np.zeros((3, 1, 1, 5))
    labels[1, 0, 0] = [3, 0.5, 0.5, 0.2, 0.2]
    with pytest.raises(LayerError, match="label 3 is out of range: there are 3 classes"):
        layer, _, top = run_layer(yolo(), np.zeros(MAP), labels, dtype=np.float32)
        layer.loss(top)


def test_an_image_that_does_not_exist():
    labels = np.array([[[[3, 1, 0, 0.1, 0.1, 0.2, 0.2, 0.0]]]])
    with pytest.raises(LayerError, match="true boxes must be of images 0 to 2, got 3 to 3"):
        run_layer(yolo(), np.zeros(MAP), labels)
