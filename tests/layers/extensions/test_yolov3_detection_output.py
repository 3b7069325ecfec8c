"""Yolov3DetectionOutput: the boxes of maps of several scales."""

import numpy as np
import pytest

from helpers.yolo import box_of, logistic, rows_of, suppressed
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of

BIASES = [10, 13, 16, 30, 33, 23, 30, 61]
ANCHORS = " ".join(f"biases: {each}" for each in BIASES)
MASKS = "mask: 2 mask: 3 mask: 0 mask: 1 anchors_scale: 16 anchors_scale: 8"


def output(text="", anchors=f"{ANCHORS} {MASKS}", sizes="num_classes: 3 num_box: 2"):
    return f"type: 'Yolov3DetectionOutput' yolov3_detection_output_param {{ {sizes} {anchors} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(output(), [(2, 16, 2, 3), (2, 16, 4, 6)], [normal, normal], gradient=()),
        Case(output("confidence_threshold: 0.99"), [(2, 16, 2, 3), (2, 16, 4, 6)], [normal, normal], gradient=()),
    ]


def one_by_one(maps, least, threshold, gaussian):
    """The rows of a batch, box by box."""
    rows, step = [], 2 if gaussian else 1
    for n in range(len(maps[0])):
        found = []
        for values, numbers, scale in zip(maps, [(2, 3), (0, 1)], (16, 8)):
            _, channels, height, width = values.shape
            for k, j, i in np.ndindex(2, height, width):
                code = values[n, k * channels // 2 : (k + 1) * channels // 2, j, i]
                anchor = BIASES[2 * numbers[k] : 2 * numbers[k] + 2]
                size = anchor[0] / (width * scale), anchor[1] / (height * scale)
                box = box_of(code[: 4 * step : step], i, j, width, height, size)
                sure = sum(1 - logistic(each) for each in code[1:8:2]) / 4 if gaussian else 1
                for label, each in enumerate(code[4 * step + 1 :]):
                    score = logistic(code[4 * step]) * sure * logistic(each)
                    if score > least:
                        found.append((score, label, box))
        rows += rows_of(n, suppressed(found, threshold))
    return rows


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize(("least", "threshold"), [(0.3, 0.45), (0.01, 0.2)])
def test_rows(least, threshold, gaussian):
    rng = np.random.default_rng(0)
    channels = 2 * (12 if gaussian else 8)
    maps = [rng.standard_normal((2, channels, *size)) for size in ((2, 3), (4, 6))]
    text = f"confidence_threshold: {least} nms_threshold: {threshold} gaussian_box: {str(gaussian).lower()}"
    expected = one_by_one(maps, np.float32(least), np.float32(threshold), gaussian)
    assert len(expected) > 6
    assert_close(top_of(output(text), *maps)[0, 0], expected, rtol=1e-6)


def test_a_box_drops_those_that_overlap_it_by_just_the_threshold():
    """One map with one anchor of half its width: neighbours share a third of their union."""
    maps = np.full((1, 6, 1, 2), 0.0)
    maps[0, 4], maps[0, 5] = [3, 2], 9
    anchors = "biases: 2 biases: 1 mask: 0 anchors_scale: 1 mask_group_num: 1"

    def rows(threshold):
        text = output(f"nms_threshold: {threshold}", anchors, "num_classes: 1 num_box: 1")
        return top_of(text, maps, dtype=np.float32).shape[2]

    third = np.float32(1) / 3
    assert (rows(third), rows(np.nextafter(third, np.float32(1)))) == (1, 2)


def test_nothing_found():
    y = top_of(output("confidence_threshold: 1"), np.zeros((2, 16, 1, 1)), np.zeros((2, 16, 2, 2)))
    np.testing.assert_array_equal(y[0, 0], [[0] + [-1] * 6, [1] + [-1] * 6])


TWO = [(1, 16, 1, 1), (1, 16, 2, 2)]


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (output(), [(1, 15, 1, 1), TWO[1]], r"bottom 0 must be \(N, 16, H, W\), 8 numbers for each of 2 anchors"),
        (output(), [(2, 16, 1, 1), TWO[1]], "all bottoms must have the same images"),
        (output(), TWO[:1], "mask_group_num must be 1, the number of bottoms, and anchors_scale be given"),
        (output("mask: 1"), TWO, r"mask must give 2 anchors for each of 2 bottoms, got \[2, 3, 0, 1, 1\]"),
        (output(anchors=f"biases: 1 {MASKS}"), TWO, "biases must be pairs of a width and a height above 0"),
        (output(anchors=f"biases: 1 biases: 1 {MASKS}"), TWO, "biases must give anchor 2, got 1 anchors"),
        (output("nms_threshold: -1"), TWO, "nms_threshold must not be negative"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Yolov3DetectionOutput layer 'layer': {words}"):
        top_of(text, *map(np.zeros, shapes))
