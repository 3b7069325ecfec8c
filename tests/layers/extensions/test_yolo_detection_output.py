"""YoloDetectionOutput: the boxes of YOLOv2's maps."""

import numpy as np
import pytest

from helpers.yolo import box_of, logistic, rows_of, suppressed
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of

BIASES = [0.7, 0.9, 1.4, 1.1]
ANCHORS = " ".join(f"biases: {each}" for each in BIASES)


def output(text="", sizes="num_classes: 3 num_box: 2"):
    return f"type: 'YoloDetectionOutput' yolo_detection_output_param {{ {sizes} {ANCHORS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(output(), [(2, 16, 2, 3)], [normal], gradient=()),
        Case(output("confidence_threshold: 0.2"), [(2, 16, 2, 3), (2, 16, 4, 6)], [normal, normal], gradient=()),
    ]


def one_by_one(maps, least, threshold):
    """The rows of a batch, box by box."""
    rows = []
    for n in range(len(maps[0])):
        found = []
        for values in maps:
            height, width = values.shape[2:]
            for k, j, i in np.ndindex(2, height, width):
                code = values[n, 8 * k : 8 * k + 8, j, i]
                box = box_of(code[:4], i, j, width, height, (BIASES[2 * k] / width, BIASES[2 * k + 1] / height))
                classes = np.exp(code[5:]) / np.exp(code[5:]).sum()
                score = logistic(code[4]) * classes.max()
                if score >= least:
                    found.append((score, int(classes.argmax()), box))
        rows += rows_of(n, suppressed(found, threshold))
    return rows


@pytest.mark.parametrize("sizes", [[(3, 4)], [(2, 3), (4, 6)]])
def test_rows(sizes):
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal((2, 16, *size)) for size in sizes]
    expected = one_by_one(maps, np.float32(0.2), np.float32(0.3))
    assert len(expected) > 6
    assert_close(top_of(output("confidence_threshold: 0.2 nms_threshold: 0.3"), *maps)[0, 0], expected, rtol=1e-6)


def test_a_score_that_is_the_threshold_counts():
    y = top_of(output("confidence_threshold: 0.5", "num_classes: 1 num_box: 1"), np.zeros((1, 6, 1, 1)))
    assert_close(y[0, 0], [[0, 1, 0.5, 0.15, 0.05, 0.85, 0.95]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (output("coords: 5"), "coords must be 4, got 5"),
        (output(sizes="num_classes: 3 num_box: 3"), "biases must give anchor 2, got 2 anchors, from 0 on"),
        (output(sizes="num_box: 2"), "num_classes must be given"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^YoloDetectionOutput layer 'layer': {words}"):
        top_of(text, np.zeros((1, 16, 1, 1)))
