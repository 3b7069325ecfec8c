"""DetectionOutput: decoding, suppression, the reported rows."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.layers.shared.boxes import overlaps, suppress
from minicaffe.testing import Case, LayerProperties, assert_close, normal, positive, top_of

PRIORS = np.array([[0.1, 0.1, 0.3, 0.3], [0.12, 0.1, 0.32, 0.3], [0.5, 0.5, 0.9, 0.7], [0.6, 0.1, 0.8, 0.5]])
VARIANCES = [0.1, 0.1, 0.2, 0.2]


def priors(rng=None, shape=None):
    return np.stack([PRIORS, np.tile(VARIANCES, (4, 1))]).reshape(1, 2, 16)


def output(text=""):
    return f"type: 'DetectionOutput' detection_output_param {{ num_classes: 3 {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(output(), [(2, 16), (2, 12), (1, 2, 16)], [normal, positive, priors], gradient=()),
        Case(
            output("share_location: false code_type: CENTER_SIZE keep_top_k: 3"),
            [(2, 48), (2, 12), (1, 2, 16)], [normal, positive, priors], gradient=(),
        ),
    ]  # fmt: skip


def run(text, locations, confidences):
    return top_of(text, locations, confidences, priors(), phase=1)


def scores(*rows):
    """Confidences (1, 12): three classes for each of four priors."""
    return np.reshape(rows, (1, 12))


ONE = scores([0.1, 0.9, 0], [0.2, 0.8, 0], [0.3, 0.4, 0.6], [1, 0, 0])


def test_overlaps():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [2, 0, 4, 2.0]])
    assert_close(overlaps(boxes[:2].T, boxes.T), [[1, 1 / 7, 0, 0], [1 / 7, 1, 0, 1 / 7]], rtol=1e-9)


def one_by_one(boxes, threshold, eta):
    """Compare each box with those that are kept; return those that are kept."""
    kept, shared = [], overlaps(boxes.T, boxes.T)
    for i in range(len(boxes)):
        if all(shared[i, j] <= threshold for j in kept):
            kept.append(i)
            threshold *= eta if threshold > 0.5 else 1
    return kept


@pytest.mark.parametrize("threshold", [0, 0.3, 0.7, 1])
@pytest.mark.parametrize("eta", [1, 0.95])
def test_suppression_of_more_boxes_than_a_block(threshold, eta):
    rng = np.random.default_rng(0)
    corners = rng.random((200, 2)).repeat(2, 0).reshape(200, 4)[:, [0, 2, 1, 3]] * 0.5
    boxes = (corners + [0, 0, 0.3, 0.3] * rng.random((200, 4))).astype(np.float32)
    assert suppress(boxes, threshold, eta) == one_by_one(boxes, threshold, eta)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_suppression_of_boxes_that_are_no_numbers(odd):
    boxes = np.array([[0, 0, 1, 1], [0, 0, odd, 1], [0, 0, 1, 1], [0, 0, odd, 1]], np.float32)
    with np.errstate(all="ignore"):
        assert suppress(boxes, 0.5) == ([0, 1, 3] if np.isnan(odd) else [0, 1])


def test_the_largest_scores_are_candidates_the_earlier_of_equal_ones():
    y = run(output("nms_param { nms_threshold: 1 top_k: 2 }"), np.zeros((1, 16)), scores(*[[0, 0.5, 0.5]] * 4))
    assert_close(y[0, 0, :, 3:], PRIORS[[0, 1, 0, 1]], rtol=1e-6)


def test_the_better_of_two_boxes_stays():
    y = run(output("confidence_threshold: 0.3 nms_param { nms_threshold: 0.5 }"), np.zeros((1, 16)), ONE)
    expected = [[0, 1, 0.9, *PRIORS[0]], [0, 1, 0.4, *PRIORS[2]], [0, 2, 0.6, *PRIORS[2]]]
    assert_close(y[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("nms_param { nms_threshold: 0.9 }", [0.9, 0.8, 0.4, 0.6]),
        ("nms_param { nms_threshold: 0.9 top_k: 2 }", [0.9, 0.8, 0.6]),
        ("nms_param { nms_threshold: 0.9 } keep_top_k: 2", [0.9, 0.8]),
        ("nms_param { nms_threshold: 0.9 eta: 0.5 }", [0.9, 0.4, 0.6]),
        ("nms_param { nms_threshold: 0.9 } background_label_id: 1", [1, 0.3, 0.6]),
    ],
)
def test_how_many_stay(text, kept):
    y = run(output(f"confidence_threshold: 0.25 {text}"), np.zeros((1, 16)), ONE)
    assert_close(y[0, 0, :, 2], kept, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("", [1, 2, 3, 4], [0.6, 0.7, 1.5, 1.5]),
        ("variance_encoded_in_target: true", [0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 1.2, 1.1]),
        ("code_type: CORNER_SIZE", [1, 2, 3, 4], [0.54, 0.54, 1.14, 0.86]),
        ("code_type: CENTER_SIZE", [1, 2, 0, 5 * np.log(2)], [0.54, 0.44, 0.94, 0.84]),
    ],
)
def test_decoding(text, code, expected):
    locations = np.zeros((1, 16))
    locations[0, 8:12] = code
    y = run(
        output(f"confidence_threshold: 0.5 {text}"), locations, scores([1, 0, 0], [1, 0, 0], [0, 0, 0.7], [1, 0, 0])
    )
    assert_close(y[0, 0], [[0, 2, 0.7, *expected]], rtol=1e-6)


def test_nothing_found():
    y = run(output("confidence_threshold: 2"), np.zeros((2, 16)), np.zeros((2, 12)))
    np.testing.assert_array_equal(y[0, 0], [[0] + [-1] * 6, [1] + [-1] * 6])


@pytest.mark.parametrize(
    ("text", "locations", "words"),
    [
        (output(), (1, 12), r"bottom 0 must hold 4 numbers for each of 4 priors, got \(1, 12\)"),
        (output("share_location: false"), (1, 16), "bottom 0 must hold 12 numbers for each of 4 priors"),
        (output("nms_param { nms_threshold: -1 }"), (1, 16), "nms_threshold must not be negative"),
        ("type: 'DetectionOutput'", (1, 16), "num_classes must be at least 1"),
    ],
)
def test_errors_name_the_layer(text, locations, words):
    with pytest.raises(LayerError, match=f"^DetectionOutput layer 'layer': {words}"):
        run(text, np.zeros(locations), np.zeros((1, 12)))
