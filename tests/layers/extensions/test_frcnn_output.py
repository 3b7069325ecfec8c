"""FrcnnOutput: boxes against plain loops, files of detections, and mistakes."""

import math

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer, top_of

SIZE = np.array([[60.0, 90.0]])  # height, width
CODES = (
    "bbox_mean: 0.1 bbox_mean: 0 bbox_mean: 0.05 bbox_mean: 0 bbox_std: 0.2 bbox_std: 0.2 bbox_std: 0.3 bbox_std: 0.3"
)


def output(more="", codes=""):
    return f"type: 'FrcnnOutput' frcnn_output_param {{ {more} }} bbox_reg_param {{ {codes} }}"


def scene(seed=0, count=12, classes=3, aware=True, scored=False):
    rng = np.random.default_rng(seed)
    scores = np.exp(rng.standard_normal((count, classes)))
    corners = rng.integers(0, 50, (count, 2))
    regions = np.column_stack([np.zeros(count), corners, corners + rng.integers(5, 40, (count, 2))])
    if scored:
        regions = np.column_stack([regions, rng.random(count)])
    codes = rng.standard_normal((count, 4 * classes if aware else 8)) * 0.5
    return scores / scores.sum(1, keepdims=True), codes, regions.astype(float), SIZE


class TestProperties(LayerProperties):
    cases = [
        Case(
            output(), [(12, 3), (12, 12), (12, 5), (1, 2)], [lambda rng, shape, i=i: scene()[i] for i in range(4)], ()
        ),
    ]


def share(a, b, kind):
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in (0, 1)]
    if min(sides) <= 0:
        return 0.0
    first, second = ((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    shared = sides[0] * sides[1]
    return shared / {"IOU": first + second - shared, "IOMU": min(first, second), "IOFU": first}[kind]


def by_loops(scores, codes, regions, size, conf=0.0, thr=0.5, kind="IOU", most=0, mean=(0,) * 4, std=(1,) * 4):
    rows = []
    height, width = size[0]
    for label in range(1, scores.shape[1]):
        start = 4 * label if codes.shape[1] == 4 * scores.shape[1] else 4
        found = []
        for n in np.argsort(-scores[:, label], kind="stable"):
            if scores[n, label] < conf:
                continue
            x1, y1, x2, y2 = regions[n, 1:5]
            dx, dy, dw, dh = codes[n, start : start + 4] * std + mean
            w, h = x2 - x1 + 1, y2 - y1 + 1
            x, y, w, h = dx * w + (x1 + x2) / 2, dy * h + (y1 + y2) / 2, w * math.exp(dw), h * math.exp(dh)
            left, top = x - (w - 1) / 2, y - (h - 1) / 2
            box = [max(left, 0), max(top, 0), min(left + w - 1, width), min(top + h - 1, height)]
            if all(share(other[1:5], box, kind) <= thr for other in found):
                found.append([0, *box, label, scores[n, label]])
        rows += found
    if most and len(rows) > most:
        rows = sorted(sorted(rows, key=lambda row: -row[6])[:most], key=lambda row: row[5])
    return np.array([[0, *[-1] * 6], *rows])


@pytest.mark.parametrize(
    ("more", "codes", "settings", "kind"),
    [
        ("", "", {}, {}),
        ("conf_thr: 0.3 iou_thr: 0.2", CODES,
         {"conf": 0.3, "thr": 0.2, "mean": (0.1, 0, 0.05, 0), "std": (0.2, 0.2, 0.3, 0.3)}, {}),
        ("max_det_num: 5 nms_type: 'IOMU'", "cls_aware: false", {"most": 5, "kind": "IOMU"}, {"aware": False}),
        ("nms_type: 'IOFU' iou_thr: 0.1", "", {"kind": "IOFU", "thr": 0.1}, {"scored": True, "classes": 4}),
    ],
)  # fmt: skip
def test_against_loops(engine, more, codes, settings, kind):
    for seed in range(4):
        given = scene(seed, **kind)
        expected = by_loops(*given, **settings)
        _, _, (top,) = run_layer(output(more, codes), *given, dtype=np.float64)
        assert top.shape == (len(expected), 7, 1, 1) and len(expected) > 4
        np.testing.assert_allclose(top.data.reshape(-1, 7), expected, rtol=1e-6, atol=1e-6)


def test_without_any_box_one_row_is_left(engine):
    assert top_of(output("conf_thr: 2"), *scene()).reshape(-1, 7).tolist() == [[0, *[-1] * 6]]


def test_files(tmp_path):
    (tmp_path / "labels.prototxt").write_text(
        "".join(f'item {{ name: "{name}" label: {label} display_name: "{name}" }}\n'
                for label, name in enumerate(("none", "cat", "dog")))
    )  # fmt: skip
    (tmp_path / "sizes.txt").write_text("first 120 180\nsecond 60 90\n")
    fields = f"""output_directory: "{tmp_path}/out" output_name_prefix: "det_" output_format: "VOC"
        label_map_file: "{tmp_path}/labels.prototxt" name_size_file: "{tmp_path}/sizes.txt" """
    scores, regions = np.array([[0.1, 0.7, 0.2]]), np.array([[0, 10, 20, 29, 39]])
    given = scores, np.zeros((1, 12)), regions, SIZE
    layer, bottom, top = run_layer(output(f"conf_thr: 0.5 save_output_param {{ {fields} }}"), *given)
    saved = layer.state()
    assert not (tmp_path / "out").exists()
    layer.forward(bottom, top)
    expected = ["first 0.7 20 40 58 78", "second 0.7 10 20 29 39"]  # the first image is twice as large
    assert (tmp_path / "out" / "det_cat.txt").read_text().splitlines() == expected
    assert (tmp_path / "out" / "det_dog.txt").read_text() == ""
    layer.load_state(saved)
    layer.forward(bottom, top)
    assert (tmp_path / "out" / "det_cat.txt").read_text().splitlines() == expected[1:]


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (output(), [(5, 3), (5, 8), (5, 5), (1, 2)], r"bottom 1 must be \(5, 12\), got \(5, 8\)"),
        (output("", "cls_aware: false"), [(5, 3), (5, 12), (5, 5), (1, 2)], r"bottom 1 must be \(5, 8\)"),
        (output(), [(5, 3), (5, 12), (4, 5), (1, 2)], r"bottom 2 must be \(5, 5\) or \(5, 6\), got \(4, 5\)"),
        (output(), [(5, 1), (5, 4), (5, 5), (1, 2)], "bottom 0 must be the probabilities"),
        (output(), [(5, 3), (5, 12), (5, 5), (2, 2)], "bottom 3 must be height and width of one image"),
        (output("nms_type: 'NONE'"), [(5, 3), (5, 12), (5, 5), (1, 2)], "nms_type must be one of IOU, IOMU, IOFU"),
    ],
)
def test_errors(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        build_layer(text, *(np.zeros(shape) for shape in shapes))


def test_regions_of_another_image(engine):
    scores, codes, regions, size = scene()
    regions[3, 0] = 1
    with pytest.raises(LayerError, match="regions must be of one image, 0, got 1"):
        run_layer(output(), scores, codes, regions, size)
