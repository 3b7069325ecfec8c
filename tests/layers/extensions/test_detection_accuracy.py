"""DetectionAccuracy, by plain loops."""

import math

import numpy as np
import pytest

from helpers.map_truth import CLASSES, FIELD, RATE, box_iou, map_scene, placed
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer

TEXT = (
    "type: 'DetectionAccuracy' detection_accuracy_param {{ cls_num: {classes} field_w: {field[0]} field_h: {field[1]} "
    "downsample_rate: {rate} {more} }} {outside}"
)


def accuracy(more="", outside="", classes=CLASSES):
    return TEXT.format(classes=classes, field=FIELD, rate=RATE, more=more, outside=outside)


class TestProperties(LayerProperties):
    cases = [
        Case(accuracy("top_k: 2"), [(2, CLASSES + 4, 4, 5), (2, 6, 4, 5)],
             [lambda rng, shape, i=i: map_scene()[i] for i in range(2)], (), num_top=2)
    ]  # fmt: skip


def by_loops(x, labels, top_k=1, whr=2.0, xyr=4.0, background=0.5, objectness=False, ignored=None):
    right, of_objects, overlaps = [], [], []
    for n, row, column in np.ndindex(labels[:, 0].shape):
        label, scores = int(labels[n, 0, row, column]), x[n, :-4, row, column]
        if label == ignored:
            continue
        if label:
            overlaps.append(box_iou(placed(x[n, -4:, row, column], row, column, whr, xyr), labels[n, 1:5, row, column]))
        label = min(label, 1) if objectness else label
        if label == 0 and labels[n, 5, row, column] >= background:
            continue
        best = sorted(range(len(scores)), key=lambda k: (-scores[k], -k))[:top_k]
        right.append(label in best)
        if label:
            of_objects.append(label in best)
    return [np.mean(each) if each else -1 for each in (right, of_objects, overlaps)]


@pytest.mark.parametrize(
    ("more", "outside", "settings"),
    [
        ("", "", {}),
        ("top_k: 2 field_whr: 1.5 field_xyr: 2", "", {"top_k": 2, "whr": 1.5, "xyr": 2}),
        ("bg_threshold: 0.3", "loss_param { ignore_label: 2 }", {"background": np.float32(0.3), "ignored": 2}),
    ],
)
def test_against_a_loop(engine, more, outside, settings):
    x, labels = map_scene()
    _, _, top = run_layer(accuracy(more, outside), x, labels, num_top=2, dtype=np.float32)
    expected = by_loops(x.astype(np.float32), labels.astype(np.float32), **settings)
    assert top[0].shape == (1, 1, 1, 2) and top[1].shape == (1, 1, 1, 1)
    np.testing.assert_allclose([*top[0].data.flat, *top[1].data.flat], expected, rtol=1e-5)


def test_all_objects_as_one_class(engine):
    x, labels = map_scene()
    x = np.concatenate([x[:, :2], x[:, -4:]], 1)
    _, _, top = run_layer(accuracy("objectness: true", classes=2), x, labels, num_top=2, dtype=np.float32)
    expected = by_loops(x.astype(np.float32), labels.astype(np.float32), objectness=True)
    np.testing.assert_allclose([*top[0].data.flat, *top[1].data.flat], expected, rtol=1e-5)


def test_equal_scores_are_right_for_the_last_class(engine):
    x, labels = map_scene()
    x[:, :-4] = 0
    labels[:, 0] = CLASSES - 1
    _, _, top = run_layer(accuracy(), x, labels, num_top=2)
    assert top[0].data.ravel().tolist() == [1, 1]


def test_nothing_that_counts(engine):
    x, labels = map_scene()
    labels[:, 0], labels[:, 5] = 0, 1
    _, _, top = run_layer(accuracy(), x, labels, num_top=2)
    assert [*top[0].data.flat, *top[1].data.flat] == [-1, -1, -1]


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (accuracy(), [(2, 6, 4, 5), (2, 6, 4, 5)], r"bottom 0 must be \(N, cls_num \+ 4 = 7, H, W\)"),
        (accuracy(), [(2, 7, 4, 5), (2, 6, 4, 4)], "bottom 1 must have the labels of bottom 0"),
        (accuracy("objectness: true"), [(2, 7, 4, 5), (2, 6, 4, 5)], "cls_num must be 2 with objectness"),
        (accuracy("top_k: 4"), [(2, 7, 4, 5), (2, 6, 4, 5)], "top_k must be from 1 to cls_num 3"),
        (accuracy("coord_num: 5"), [(2, 7, 4, 5), (2, 6, 4, 5)], "coord_num must be 4"),
        (accuracy("field_xyr: 0"), [(2, 7, 4, 5), (2, 6, 4, 5)], "field_xyr must be above 0"),
    ],
)
def test_errors(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        build_layer(text, *(np.zeros(shape) for shape in shapes), num_top=2)


def test_a_label_outside_the_classes(engine):
    x, labels = map_scene()
    labels[0, 0, 1, 1] = 3
    with pytest.raises(LayerError, match="label 3 is out of range: bottom 0 has 3 classes"):
        run_layer(accuracy(), x, labels, num_top=2)


def test_the_code_is_limited(engine):
    x, labels = map_scene()
    x[:, -4:] = 50
    box = placed(x[0, -4:, 0, 0], 0, 0, 2, 4)
    assert box[2] == pytest.approx(2 * FIELD[0]) and box[0] == pytest.approx(FIELD[0] / 4 + RATE / 2)
    assert math.isfinite(run_layer(accuracy(), x, labels, num_top=2)[2][1].data.item())
