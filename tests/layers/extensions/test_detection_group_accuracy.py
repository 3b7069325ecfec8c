"""DetectionGroupAccuracy, by plain loops."""

import numpy as np
import pytest

from helpers.detection_groups import FIELDS, SHAPES, TEXT, VALUES, scene
from helpers.map_truth import CLASSES, box_iou, placed
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer


def accuracy(more="", outside="", classes=CLASSES):
    param = f"detection_group_accuracy_param {{ cls_num: {classes} {TEXT} {more} }}"
    return f"type: 'DetectionGroupAccuracy' {param} {outside}"


class TestProperties(LayerProperties):
    cases = [Case(accuracy(), SHAPES, VALUES, (), num_top=2)]


def accuracy_by_loops(scores, codes, labels, whr=2.0, xyr=4.0, background=0.5, ignored=None):
    right, of_objects, overlaps = [], [], []
    for n, row, column in np.ndindex(labels[:, 0].shape):
        label = int(labels[n, 0, row, column])
        if label == ignored or (label == 0 and labels[n, 5, row, column] >= background):
            continue
        right.append(int(np.argmax(scores[n, :, row, column])) == label)
        if label:
            box = placed(codes[n, :, row, column], row, column, whr, xyr, FIELDS[n % 2])
            overlaps.append(box_iou(box, labels[n, 1:5, row, column]))
            of_objects.append(right[-1])
    return [np.mean(each) if each else -1 for each in (right, of_objects, overlaps)]


@pytest.mark.parametrize(
    ("more", "outside", "settings"),
    [
        ("", "", {}),
        ("field_whr: 1.5 field_xyr: 2", "", {"whr": 1.5, "xyr": 2}),
        ("bg_threshold: 0.3", "loss_param { ignore_label: 2 }", {"background": np.float32(0.3), "ignored": 2}),
    ],
)
def test_accuracy_against_loops(engine, more, outside, settings):
    given = [x.astype(np.float32) for x in scene()]
    _, _, top = run_layer(accuracy(more, outside), *given, num_top=2, dtype=np.float32)
    assert top[0].shape == (1, 1, 1, 2) and top[1].shape == (1, 1, 1, 1)
    np.testing.assert_allclose([*top[0].data.flat, *top[1].data.flat], accuracy_by_loops(*given, **settings), rtol=1e-5)


def test_equal_scores_are_right_for_the_first_class(engine):
    scores, codes, labels = scene()
    _, _, top = run_layer(accuracy(), scores * 0, codes, labels)
    objects = labels[:, 0] > 0
    counted = objects | (labels[:, 5] < 0.5)
    np.testing.assert_allclose(top[0].data.ravel(), [(~objects & counted).sum() / counted.sum(), 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (accuracy(), [*SHAPES[:2], (4, 6, 4, 4)], r"bottom 2 must have the labels of bottom 0, \(4, 6, 4, 5\)"),
        (accuracy("field_whr: 0"), SHAPES, "field_whr must be above 0"),
        (accuracy("objectness: true"), SHAPES, "cls_num must be 2 with objectness"),
    ],
)
def test_errors(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        build_layer(text, *(np.zeros(shape) for shape in shapes))
