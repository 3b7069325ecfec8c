"""DetectionOutput: decoding, suppression, the reported rows."""

import json
import logging

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.layers.shared.boxes import decode, overlaps, suppress
from minicaffe.proto.caffe_pb2 import PriorBoxParameter
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, normal, positive, top_of

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
        Case(
            output("code_type: CENTER_SIZE objectness_score: 0.6 confidence_threshold: 0.1"),
            [(2, 16), (2, 12), (1, 2, 16), (2, 8), (2, 16)], [normal, positive, priors, positive, normal], gradient=(),
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


# -- RefineDet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code_type", ["CORNER", "CORNER_SIZE", "CENTER_SIZE"])
def test_priors_are_refined_and_filtered_by_the_first_stage(code_type):
    rng = np.random.default_rng(0)
    locations, refining = rng.normal(size=(2, 1, 16))
    text = output(f"code_type: {code_type} confidence_threshold: 0.05 objectness_score: 0.4")
    objectness = np.array([[0, 0.5, 0, 0.3, 0, 0.41, 0, 0.9]])  # the second prior is background
    y = top_of(text, locations, ONE, priors(), objectness, refining, phase=1)
    kind = getattr(PriorBoxParameter, code_type)
    variances = np.tile(VARIANCES, (4, 1))
    refined = decode(refining.reshape(4, 4), PRIORS, variances, kind)
    boxes = np.stack([refined, variances]).reshape(1, 2, 16)
    confidences = ONE.copy()
    confidences[0, 3:6] = 1, 0, 0
    assert_close(y, top_of(text, locations, confidences, boxes, phase=1), rtol=1e-5)
    assert not np.isclose(y[0, 0, :, 2], 0.8).any() and np.isclose(y[0, 0, :, 2], 0.9).any()


def test_images_to_draw_on_are_not_read():
    y = top_of(output(), np.zeros((1, 16)), ONE, priors(), np.ones((1, 3, 4, 4)), phase=1)
    assert_close(y, run(output(), np.zeros((1, 16)), ONE))


# -- files -------------------------------------------------------------------------------------------------------------

LABELS = 'item { name: "none" label: 0 } item { name: "1" label: 1 } item { name: "a dog" label: 2 }'


@pytest.fixture
def saving(tmp_path, monkeypatch):
    """The text of a layer that writes files, with more fields of save_output_param."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.prototxt").write_text(LABELS)
    (tmp_path / "sizes.txt").write_text("a 100 200\n007 10 10\n12 10 10\n")
    files = "label_map_file: 'labels.prototxt' name_size_file: 'sizes.txt' output_name_prefix: 'p_'"
    return lambda more: output(f"confidence_threshold: 0.3 save_output_param {{ {files} {more} }}")


def saved(text, *batches):
    """Run a layer on batches of confidences."""
    layer, bottom, top = build_layer(text, np.zeros((len(batches[0]), 16)), batches[0], priors(), phase=1)
    for confidences in batches:
        bottom[1].data = confidences
        layer.forward(bottom, top)
    return layer


def test_files_are_complete_after_the_last_image_of_any_batch(saving, tmp_path):
    """Three images in batches of two: the second batch begins the next files."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("of the user")
    text = saving("output_directory: 'out' output_format: 'VOC'")
    layer = saved(text, np.repeat(ONE, 2, 0))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept"]
    layer = saved(text, *[np.repeat(ONE, 2, 0)] * 2)
    assert layer.state()["image"] == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["kept", "p_1.txt", "p_a dog.txt"]
    assert (tmp_path / "out" / "p_1.txt").read_text() == (
        "a 0.9 20 10 60 30\na 0.4 100 50 180 70\n007 0.9 1 1 3 3\n007 0.4 5 5 9 7\n12 0.9 1 1 3 3\n12 0.4 5 5 9 7\n"
    )


def test_a_restored_position_drops_the_detections_of_images_that_come_again(saving, tmp_path):
    text, path = saving("output_directory: 'out' output_format: 'VOC'"), tmp_path / "out" / "p_1.txt"
    saved(text, *[ONE] * 3)
    expected = path.read_text()
    layer, bottom, top = build_layer(text, np.zeros((1, 16)), ONE, priors(), phase=1)
    start = layer.state()
    layer.forward(bottom, top)
    layer.load_state(start)
    for _ in range(3):
        layer.forward(bottom, top)
    assert path.read_text() == expected


def test_json_is_valid_also_for_names_and_numbers_of_any_kind(saving, tmp_path):
    tiny = np.where(ONE == 0.4, 0, ONE)
    saved(saving("output_directory: 'out' output_format: 'COCO' num_test_image: 2"), np.repeat(tiny, 2, 0))
    found = json.loads((tmp_path / "out" / "p_.json").read_text())
    assert [(each["image_id"], each["category_id"]) for each in found] == [
        ("a", 1), ("a", "a dog"), ("007", 1), ("007", "a dog"),
    ]  # fmt: skip
    assert found[0]["bbox"] == [20, 10, 40, 20] and found[0]["score"] == np.float32(0.9)


@pytest.mark.parametrize(("kind", "name"), [("COCO", "p_.json"), ("ILSVRC", "p_.txt"), ("VOC", "p_1.txt")])
def test_files_without_any_detection(saving, tmp_path, kind, name):
    saved(saving(f"output_directory: 'out' output_format: '{kind}'"), np.zeros((3, 12)))
    text = (tmp_path / "out" / name).read_text()
    assert json.loads(text) == [] if kind == "COCO" else text == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "save_output_param gives no output_directory"),
        (
            "output_directory: 'out' output_format: 'VOC' label_map_file: 'missing'",
            "there is no label_map_file 'missing'",
        ),
        (
            "output_directory: 'out' output_format: 'VOC' name_size_file: ''",
            "save_output_param gives no name_size_file",
        ),
    ],
)
def test_nothing_is_saved_without_names_or_folder(tmp_path, monkeypatch, caplog, text, words):
    """As in deploy prototxts, which name files of the computer where the net was trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.prototxt").write_text(LABELS)
    given = text if "label_map_file" in text or not text else text + " label_map_file: 'labels.prototxt'"
    with caplog.at_level(logging.INFO):
        saved(output(f"save_output_param {{ {given} }}"), ONE)
    assert f"detections are not saved to files: {words}" in caplog.text and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("output_format: 'voc'", r"output_format must be one of VOC, COCO, ILSVRC, got 'voc'"),
        ("output_format: 'VOC' resize_param { }", "resize_param needs a height and a width above 0"),
        ("output_format: 'VOC' num_test_image: 4", "list of image sizes sizes.txt has 3 images, expected 4 or more"),
        ("output_format: 'VOC' label_map_file: 'few.prototxt'", "label map few.prototxt has no class of label 2"),
        (
            "output_format: 'VOC' label_map_file: 'odd.prototxt'",
            "label map odd.prototxt: '../b' cannot be part of",
        ),
    ],
)
def test_errors_of_what_is_saved(saving, tmp_path, text, words):
    (tmp_path / "few.prototxt").write_text('item { name: "one" label: 1 }')
    (tmp_path / "odd.prototxt").write_text('item { name: "a" label: 1 } item { name: "../b" label: 2 }')
    given = saving(f"output_directory: 'out' {text}")
    given = given.replace("label_map_file: 'labels.prototxt'", "", 1) if "prototxt" in text else given
    with pytest.raises(LayerError, match=f"^DetectionOutput layer 'layer': {words}"):
        saved(given, ONE)


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


def test_bottoms_of_the_first_stage_must_fit():
    with pytest.raises(LayerError, match="bottoms 3 and 4 must be .* RefineDet's first stage"):
        top_of(output(), np.zeros((1, 16)), ONE, priors(), np.zeros((1, 8)), np.zeros((1, 8)), phase=1)
