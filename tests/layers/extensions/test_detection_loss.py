"""DetectionLoss: YOLO v1's steps and its printed loss."""

import numpy as np
import pytest

from helpers.yolo import overlap
from helpers.yolo_cells import in_image, labels_of, predictions
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, run_layer

SHAPES = [(3, 9 * 13), (3, 63)]
SCALES = "object_scale: 1.5 noobject_scale: 0.4 class_scale: 2 coord_scale: 3"


def loss(text=""):
    return f"type: 'DetectionLoss' detection_loss_param {{ side: 3 num_class: 3 {SCALES} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(loss(), SHAPES, [predictions, labels_of(3, 0.4)], gradient=()),
        Case(loss("constriant: true sqrt: false"), SHAPES, [predictions, labels_of(3, 0.4)], gradient=()),
        Case(loss(), SHAPES, [predictions, labels_of(3, 0)], gradient=()),
    ]


def one_by_one(x, labels, roots, inside):
    """The steps, and the printed loss."""
    steps, own, others, count = np.zeros_like(x), 0.0, 0.0, 0
    for n, cell in np.ndindex(len(x), 9):
        p, d, given = x[n, cell::9], steps[n, cell::9], labels[n]
        d[3:5] = 0.4 * p[3:5]
        others += 0.4 * (p[3:5] ** 2).sum()
        if not given[9 + cell]:
            continue
        count += 1
        truth, target = given[27 + 4 * cell : 31 + 4 * cell], np.arange(3) == given[18 + cell]
        boxes = [in_image(p[5 + 4 * k : 9 + 4 * k], cell, 3, roots, inside) for k in range(2)]
        overlaps = [overlap(box, truth) for box in boxes]
        far = [np.sqrt(((box - truth) ** 2).sum()) for box in boxes]
        k = int(np.argmax(overlaps)) if max(overlaps) > 0 else int(np.argmin(far))
        coded = truth.copy()
        if inside:
            coded[:2] = coded[:2] * 3 - [cell % 3, cell // 3]
        if roots:
            coded[2:] = np.sqrt(coded[2:])
        miss = p[5 + 4 * k : 9 + 4 * k] - coded
        d[:3] = 2 * (p[:3] - target)
        d[3 + k] = 1.5 * (p[3 + k] - overlaps[k])
        d[5 + 4 * k : 9 + 4 * k] = 3 * miss
        own += 2 * ((p[:3] - target) ** 2).sum() + 1.5 * (p[3 + k] - 1) ** 2 + 3 * (miss**2).sum()
        others -= 0.4 * p[3 + k] ** 2
    return steps, own / max(count, 1) + others / max(len(x) * 18 - count, 1)


@pytest.mark.parametrize("roots", [True, False])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("objects", [0.5, 0])
def test_steps_and_loss(engine, roots, inside, objects):
    rng = np.random.default_rng(0)
    x, labels = predictions(rng, SHAPES[0]), labels_of(3, objects)(rng, SHAPES[1])
    text = f"sqrt: {str(roots).lower()} constriant: {str(inside).lower()}"
    layer, bottom, top = run_layer(loss(text), x, labels, dtype=np.float32)
    steps, expected = one_by_one(x.astype(np.float32).astype(float), labels.astype(np.float32), roots, inside)
    assert_close(top[0].read_data(), expected)
    top[0].diff[...] = 0.7
    layer.backward(top, [True, False], bottom)
    assert_close(bottom[0].read_diff(), 0.7 * steps / 3)


def test_the_nearest_box_learns_where_none_overlaps(engine):
    x, labels = np.zeros((1, 13)), np.zeros((1, 7))
    labels[0] = [0, 1, 0, 0.2, 0.2, 0.1, 0.1]
    x[0, 5:] = [0.9, 0.9, 0.1, 0.1, 0.7, 0.7, 0.1, 0.1]
    layer, bottom, top = run_layer(loss().replace("side: 3", "side: 1"), x, labels, dtype=np.float32)
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    assert (bottom[0].read_diff()[0, 5:] != 0).tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (loss("num_object: 0"), SHAPES, r"side, num_class and num_object must be at least 1, got \[3, 3, 0\]"),
        (loss(), [(3, 116), (3, 63)], r"bottom 0 must be \(N, 117\), 13 numbers for each of 9 cells, got \(3, 116\)"),
        (loss(), [(3, 117), (2, 63)], r"bottom 1 must be \(N, 63\), 7 numbers for each of 9 cells, got \(2, 63\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^DetectionLoss layer 'layer': {words}"):
        run_layer(text, *map(np.zeros, shapes))


def test_a_class_that_does_not_exist(engine):
    labels = np.zeros(SHAPES[1])
    labels[1, [9, 18]] = 1, 3
    with pytest.raises(LayerError, match="label 3 is out of range: there are 3 classes"):
        layer, _, top = run_layer(loss(), np.zeros(SHAPES[0]), labels, dtype=np.float32)
        layer.loss(top)
