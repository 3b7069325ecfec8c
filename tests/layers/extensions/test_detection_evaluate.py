"""DetectionEvaluate: which detections are right."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.layers.shared.image_sizes import ImageSize, in_pixels
from minicaffe.proto import parse_text
from minicaffe.proto.caffe_pb2 import ResizeParameter
from minicaffe.solvers.average_precision import VERSIONS, Detections, average_precision, mean
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, run_layer, top_of


def evaluate(text=""):
    return f"type: 'DetectionEvaluate' detection_evaluate_param {{ num_classes: 3 {text} }}"


def found(*rows):
    """Detections (1, 1, D, 7), from rows (image, class, confidence, xmin, ymin, xmax, ymax)."""
    return np.reshape(rows, (1, 1, -1, 7)).astype(float)


def true(*rows):
    """Annotated boxes (1, 1, M, 8), from rows (image, class, xmin, ymin, xmax, ymax, difficult)."""
    rows = np.reshape(rows, (-1, 7)).astype(float)
    return np.insert(rows, 2, np.arange(len(rows)), axis=1)[None, None]


def detections(rng, shape):
    rows = random_boxes(rng, shape[2], images=2, classes=3)
    return np.insert(rows, 2, rng.random(len(rows)), axis=1)[None, None]


def annotations(rng, shape):
    rows = random_boxes(rng, shape[2], images=2, classes=3)
    return true(*np.insert(rows, 6, rng.random(len(rows)) < 0.3, axis=1))


def random_boxes(rng, count, images, classes):
    """Rows (image, class, xmin, ymin, xmax, ymax) that often overlap, sorted by image."""
    corners = rng.choice([0.1, 0.2, 0.5], (count, 2)) + 0.05 * rng.random((count, 2))
    sizes = rng.choice([0.2, 0.4], (count, 2)) + 0.1 * rng.random((count, 2))
    images, labels = np.sort(rng.integers(0, images, count)), rng.integers(1, classes, count)
    return np.column_stack([images, labels, corners, corners + sizes])


class TestProperties(LayerProperties):
    cases = [
        Case(evaluate(), [(1, 1, 9, 7), (1, 1, 6, 8)], [detections, annotations], gradient=()),
        Case(
            evaluate("evaluate_difficult_gt: false overlap_threshold: 0.2"),
            [(1, 1, 9, 7), (1, 1, 6, 8)], [detections, annotations], gradient=(),
        ),
    ]  # fmt: skip


def test_counts_then_rows_by_image_class_and_confidence():
    y = top_of(
        evaluate(),
        found([0, 2, 0.3, 0, 0, 1, 1], [0, 1, 0.5, 0, 0, 1, 1], [0, 1, 0.9, 0, 0, 0.9, 1], [1, 1, 0.7, 0, 0, 1, 1]),
        true([0, 1, 0, 0, 1, 1, 0], [0, 1, 0.5, 0.5, 1, 1, 0], [1, 2, 0, 0, 1, 1, 0]),
    )
    expected = [[-1, 1, 2, -1, -1], [-1, 2, 1, -1, -1],
                [0, 1, 0.9, 1, 0], [0, 1, 0.5, 0, 1], [0, 2, 0.3, 0, 1], [1, 1, 0.7, 0, 1]]  # fmt: skip
    assert_close(y[0, 0], expected, rtol=1e-6)


def test_what_belongs_to_a_difficult_box_is_neither_right_nor_wrong():
    boxes = true([0, 1, 0, 0, 1, 1, 1], [0, 1, 2, 2, 3, 3, 0])
    hits = found([0, 1, 0.9, 0, 0, 1, 1], [0, 1, 0.8, 0, 0, 1, 1], [0, 1, 0.7, 2, 2, 3, 3])
    y = top_of(evaluate("evaluate_difficult_gt: false"), hits, boxes)
    assert_close(y[0, 0], [[-1, 1, 1, -1, -1], [-1, 2, 0, -1, -1], [0, 1, 0.9, 0, 0], [0, 1, 0.8, 0, 0],
                           [0, 1, 0.7, 1, 0]], rtol=1e-6)  # fmt: skip
    y = top_of(evaluate(), hits, boxes)
    assert_close(y[0, 0, :, 3:], [[-1, -1], [-1, -1], [1, 0], [0, 1], [1, 0]], rtol=1e-6)


def test_no_detection_and_no_annotation():
    nothing = [[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1]]
    y = top_of(evaluate(), found(*nothing), np.full((1, 1, 1, 8), -1.0))
    assert_close(y[0, 0], [[-1, 1, 0, -1, -1], [-1, 2, 0, -1, -1]])


# -- in pixels ---------------------------------------------------------------------------------------------------------


def test_boxes_in_pixels_contain_their_last_pixel(tmp_path):
    """At 10 pixels a box from 0 to 9 overlaps one from 5 to 9 by half; as fractions it is less."""
    (tmp_path / "sizes.txt").write_text("a 10 10\n")
    hits, boxes = found([0, 1, 0.9, 0, 0, 0.9, 0.9]), true([0, 1, 0.5, 0, 0.9, 0.9, 0])
    assert_close(top_of(evaluate(), hits, boxes)[0, 0, -1, 3:], [0, 1])
    text = evaluate(f"name_size_file: '{tmp_path / 'sizes.txt'}'")
    assert_close(top_of(text, hits, boxes)[0, 0, -1, 3:], [1, 0])


def test_sizes_belong_to_images_also_after_one_without_detections(tmp_path):
    """With a height of 1 pixel, all boxes of the same columns are equal: right only in the images of that size."""
    (tmp_path / "sizes.txt").write_text("a 100 100\nb 100 100\nc 1 100\n")
    layer, bottom, top = build_layer(
        evaluate(f"name_size_file: '{tmp_path / 'sizes.txt'}'"),
        found([2, 1, 0.9, 0, 0, 1, 0.4]), true([2, 1, 0, 0.2, 1, 0.6, 0]),
    )  # fmt: skip
    for _ in range(2):
        layer.forward(bottom, top)
        assert_close(top[0].data[0, 0, -1, 3:], [1, 0])
    bottom[0].data[..., 0] = bottom[1].data[..., 0] = 1
    layer.forward(bottom, top)
    assert_close(top[0].data[0, 0, -1, 3:], [0, 1])


def test_the_position_in_the_list_of_sizes_is_part_of_a_snapshot(tmp_path):
    (tmp_path / "sizes.txt").write_text("a 100 100\nb 1 100\n")
    text = evaluate(f"name_size_file: '{tmp_path / 'sizes.txt'}'")
    arrays = found([0, 1, 0.9, 0, 0, 1, 0.4]), true([0, 1, 0, 0.2, 1, 0.6, 0])
    layer, bottom, top = build_layer(text, *arrays)
    layer.forward(bottom, top)
    resumed, bottom, top = build_layer(text, *arrays)
    resumed.load_state(layer.state())
    resumed.forward(bottom, top)
    assert_close(top[0].data[0, 0, -1, 3:], [1, 0])


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("", [10, 40, 50, 200]),
        ("resize_mode: WARP height: 300 width: 300", [10, 40, 50, 200]),
        ("resize_mode: FIT_SMALL_SIZE height: 300 width: 300", [10, 40, 50, 200]),
        ("resize_mode: FIT_SMALL_SIZE height: 300 width: 300 height_scale: 100 width_scale: 80", [8, 20, 40, 120]),
        # the image fills columns 75 to 225 of 300
        ("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 300 width: 300", [0, 40, 50, 200]),
        # the image fills rows 50 to 250 of 300
        ("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 300 width: 100", [10, 10, 50, 200]),
    ],
)
def test_resizing_is_undone(resize, expected):
    resize = parse_text(resize, ResizeParameter()) if resize else None
    boxes = in_pixels(np.array([[0.1, 0.2, 0.5, 1.2]], np.float32), ImageSize("a", 200, 100), resize)
    assert_close(boxes, [expected], rtol=1e-5)


# -- average precision -------------------------------------------------------------------------------------------------


def plain_judgement(hits, boxes, threshold):
    """Rows (class, confidence, right) of VOC's evaluation, one detection after the other."""
    rows, taken = [], set()
    for i in np.argsort(-hits[:, 2], kind="stable"):
        image, label, confidence, *box = hits[i]
        best, at = 0, None
        for j, (other, kind, *_, xmin, ymin, xmax, ymax, _) in enumerate(boxes):
            if (other, kind) == (image, label):
                width, height = min(box[2], xmax) - max(box[0], xmin), min(box[3], ymax) - max(box[1], ymin)
                if width > 0 and height > 0:
                    both = (box[2] - box[0]) * (box[3] - box[1]) + (xmax - xmin) * (ymax - ymin) - width * height
                    if width * height / both > best:
                        best, at = width * height / both, j
        rows.append((label, confidence, best >= threshold and at not in taken))
        if best >= threshold:
            taken.add(at)
    return rows


def plain_average_precision(right, positives, version):
    """Average precision in float64, by its definition."""
    points, hits = [], 0
    for i, each in enumerate(right):
        hits += each
        points.append((hits / positives, hits / (i + 1)))
    if version == "11point":
        return sum(max((p for r, p in points if r >= k / 10 - 1e-9), default=0) for k in range(11)) / 11
    total, last = 0, 0
    for i, (recall, precision) in enumerate(points):
        best = max(p for _, p in points[i:]) if version == "MaxIntegral" else precision
        total, last = total + (recall - last) * best, recall
    return total


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", range(5))
def test_map_of_random_detections_is_that_of_a_plain_computation(seed, version):
    rng = np.random.default_rng(seed)
    layer, bottom, top = build_layer(evaluate(), np.zeros((1, 1, 1, 7)), np.zeros((1, 1, 1, 8)))
    rows, right, boxes = Detections("top", version), [], []
    for _ in range(4):  # batches of two images
        for blob, values in zip(bottom, (detections(rng, (1, 1, 40, 7)), annotations(rng, (1, 1, 12, 8)))):
            blob.reshape(values.shape)
            blob.data = values
        layer.forward(bottom, top)
        rows.add(top[0].data[0, 0])
        right += plain_judgement(bottom[0].data[0, 0], bottom[1].data[0, 0], 0.5)
        boxes += bottom[1].data[0, 0, :, 1].tolist()
    plain = {
        label: plain_average_precision(
            [hit for kind, _, hit in sorted(right, key=lambda row: -row[1]) if kind == label],
            boxes.count(label), version,
        )
        for label in (1, 2)
    }  # fmt: skip
    assert rows.per_class() == pytest.approx(plain, rel=1e-5)
    assert mean(rows.per_class()) == pytest.approx(sum(plain.values()) / 2, rel=1e-5)
    assert 0.02 < plain[1] < 0.98


@pytest.mark.parametrize(("version", "expected"), [("Integral", 0.8333), ("MaxIntegral", 0.8333), ("11point", 0.8485)])
def test_average_precision_of_three_detections(version, expected):
    assert average_precision([0.9, 0.8, 0.7], [1, 0, 1], 2, version) == pytest.approx(expected, abs=1e-4)


# -- errors ------------------------------------------------------------------------------------------------------------

ONE = found([0, 1, 1, 0, 0, 1, 1]), true([0, 1, 0, 0, 1, 1, 0])


@pytest.mark.parametrize(
    ("text", "arrays", "words"),
    [
        ("type: 'DetectionEvaluate'", ONE, "num_classes must be at least 1"),
        (evaluate("overlap_threshold: 0"), ONE, "overlap_threshold must be above 0, got 0"),
        (evaluate("resize_param { height: 3 }"), ONE, "resize_param needs a height and a width above 0"),
        (evaluate(), (np.zeros((1, 1, 2, 6)), ONE[1]), r"bottom 0 must be \(1, 1, rows, 7\), got \(1, 1, 2, 6\)"),
        (evaluate(), (ONE[0], np.zeros((2, 8))), r"bottom 1 must be \(1, 1, rows, 8\), got \(2, 8\)"),
        (evaluate("background_label_id: 1"), ONE, "bottom 0 has a box of the background class 1"),
        (evaluate(), (ONE[0], true([0, 0, 0, 0, 1, 1, 0])), "bottom 1 has a box of the background class 0"),
        (
            evaluate(),
            (found([np.inf, 1, 1, 0, 0, 1, 1]), ONE[1]),
            "the images of boxes must be finite",
        ),
    ],
)
def test_errors_name_the_layer(text, arrays, words):
    with pytest.raises(LayerError, match=f"^DetectionEvaluate layer 'layer': {words}"):
        top_of(text, *arrays)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has 0 images, expected 1 or more"),
        ("a 3\n", "expected a line of name, height and width, got 'a 3'"),
        ("a 3 x\n", "expected a line of name, height and width, got 'a 3 x'"),
        ("a 0 3\n", "expected a line of name, height and width, got 'a 0 3'"),
    ],
)
def test_errors_name_the_list_of_sizes(tmp_path, content, words):
    (tmp_path / "sizes.txt").write_text(content)
    with pytest.raises(LayerError, match=f"^DetectionEvaluate layer 'layer': list of image sizes .*sizes.txt.*{words}"):
        top_of(evaluate(f"name_size_file: '{tmp_path / 'sizes.txt'}'"), *ONE)


# -- three bottoms, of Cascade R-CNN -----------------------------------------------------------------------------------


def in_columns(*rows):
    """Rows as FrcnnOutput's and EvalData's, (n, columns, 1, 1)."""
    return np.reshape(rows, (len(rows), -1, 1, 1)).astype(float)


FOUND = [
    [0, -1, -1, -1, -1, -1, -1],
    [0, 10, 10, 19, 19, 1, 0.4],
    [0, 10, 10, 19, 20, 1, 0.9],
    [0, 40, 40, 49, 49, 2, 0.8],
    [1, -1, -1, -1, -1, -1, -1],
    [1, 0, 0, 9, 9, 1, 0.7],
]
TRUE = [[0, 10, 10, 19, 19, 1, 0, 0], [0, 41, 40, 50, 49, 2, 0, 1], [1, 5, 0, 14, 9, 1, 1, 0]]
SIZES = in_columns([60, 90], [60, 90])


def rows_of(text, found=FOUND, true=TRUE, sizes=SIZES):
    return top_of(evaluate(text), in_columns(*found), in_columns(*true), sizes)[0, 0].tolist()


def test_boxes_in_pixels():
    counts, rows = rows_of("")[:2], rows_of("")[2:]
    assert counts == [[-1, 1, 2, -1, -1], [-1, 2, 1, -1, -1]]
    expected = [[0, 1, 0.9, 1, 0], [0, 1, 0.4, 0, 1], [0, 2, 0.8, 1, 0], [1, 1, 0.7, 0, 1]]  # 50 of 150 pixels
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    rows = rows_of("evaluate_difficult_gt: false overlap_threshold: 0.3")
    assert rows[1][2] == 0 and rows[4][3:] == [0, 0] and rows[5][3:] == [1, 0]


def test_no_annotated_boxes_in_pixels():
    rows = rows_of("", true=[[-1] * 8])
    assert [row[2] for row in rows[:2]] == [0, 0] and [row[3:] for row in rows[2:]] == [[0, 1]] * 4


def test_boxes_are_compared_in_pixels_of_the_images(tmp_path):
    (tmp_path / "sizes.txt").write_text(
        "a 60 90\nb 6 9\nc 60 90\n"
    )  # of the second image 0.9 x 0.9 pixels in 1.9 x 1.9
    text = f'overlap_threshold: 0.35 name_size_file: "{tmp_path}/sizes.txt"'
    assert [row[3] for row in rows_of(text)[2:]] == [1, 0, 1, 1]  # 1.4 x 1.9 of 2 x 1.9 x 1.9 - 1.4 x 1.9 pixels
    layer, bottom, top = run_layer(evaluate(text), in_columns(*FOUND), in_columns(*TRUE), SIZES)
    assert layer.state()["image"] == 2
    layer.forward(bottom, top)  # images c and a
    assert top[0].data[0, 0, -1, 3] == 0 and layer.state()["image"] == 1


def test_bottoms_in_pixels_that_do_not_fit():
    with pytest.raises(LayerError, match=r"bottom 2 must be \(rows, 2, 1, 1\), got \(2, 3\)"):
        build_layer(evaluate(), in_columns(*FOUND), in_columns(*TRUE), np.zeros((2, 3)))
    with pytest.raises(LayerError, match="has the sizes of 1 images, but a box is of image 1"):
        rows_of("", sizes=SIZES[:1])
