"""BoxOutput and BoxGroupOutput, by plain loops."""

import math

import numpy as np
import pytest

from helpers.pixel_scenes import iou
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, normal, run_layer

STD = [0.1, 0.1, 0.2, 0.2]
REG = "bbox_reg_param { " + " ".join(f"bbox_mean: 0.01 bbox_std: {s}" for s in STD) + " } "
SIZES, RATES = [(12, 20), (30, 24)], [4, 8]  # width, height


def output(text="min_size: 5"):
    fields = " ".join(f"field_w: {w} field_h: {h} downsample_rate: {r}" for (w, h), r in zip(SIZES, RATES))
    return f"type: 'BoxOutput' {REG} box_output_param {{ {fields} {text} }}"


def group_output(text="min_size: 5"):
    second = "box_group_param { field_w: 25 field_h: 40 stride: 8 }"
    first = "box_group_param { " + " ".join(f"field_w: {w} field_h: {h}" for w, h in SIZES) + " stride: 4 }"
    return f"type: 'BoxGroupOutput' {REG} box_group_output_param {{ {first} {second} {text} }}"


MAPS = [(2, 7, 8, 6), (2, 7, 4, 3)]
GROUPS = [(4, 3, 8, 6), (4, 4, 8, 6), (2, 3, 4, 3), (2, 4, 4, 3)]
GROUP_FIELDS = [SIZES, [(25, 40)]]


class TestProperties(LayerProperties):
    cases = [
        Case(output("fg_thr: 1 min_size: 5"), MAPS, normal, (), num_top=2),
        Case(group_output("fg_thr: 0.8 min_size: 5 max_post_nms_num: 9"), GROUPS, np.random.Generator.random, (),
             num_top=2),
        Case(output("fg_thr: 99"), MAPS, normal, (), num_top=2),
    ]  # fmt: skip


def decoded(code, size, place, rate, whr, xyr):
    """Left and upper corner and sides of a box that is centred at a place, (column, row)."""
    code = [c * s + 0.01 for c, s in zip(code, STD)]
    sides = [size[k] * math.exp(min(max(code[k + 2], -math.log(whr)), math.log(whr))) for k in range(2)]
    centre = [min(max(code[k], -1 / xyr), 1 / xyr) * size[k] + (place[k] + 0.5) * rate for k in range(2)]
    return [centre[k] - sides[k] / 2 for k in range(2)], sides


def in_picture(start, sides, picture):
    """BoxOutput's box: moved to the right and down into the picture, then cut off; the corners, and sides."""
    start = [max(value, 0) for value in start]
    sides = [min(side, limit - value) for side, limit, value in zip(sides, picture, start)]
    return [*start, *(value + side for value, side in zip(start, sides))], sides


def clipped_pixels(start, sides, picture):
    """BoxGroupOutput's box of pixels, cut off; the first and last pixels, and sides."""
    last = [min(value + side - 1, limit) for value, side, limit in zip(start, sides, picture)]
    start = [max(value, 0) for value in start]
    return [*start, *last], [end - value + 1 for value, end in zip(start, last)]


def select(boxes, param, one):
    """The rows of an image: sorted, without those that overlap a better one.  one: width of a pixel at the end."""
    order = sorted(range(len(boxes)), key=lambda i: (-boxes[i][5], -i))[: param["max_nms_num"] or None]
    kept = []
    for i in order:
        last = [[*boxes[j][1:3], *(v - 1 + one for v in boxes[j][3:5])] for j in (*kept, i)]
        if all(iou(other, last[-1], param["nms_type"]) <= param["iou_thr"] for other in last[:-1]):
            kept.append(i)
    return [boxes[i] for i in kept[: param["max_post_nms_num"] or None]]


def parameters(seed):
    rng = np.random.default_rng(seed)
    return rng, dict(
        iou_thr=float(rng.choice([0.3, 0.5, 0.7])), nms_type=["IOU", "IOMU", "IOFU"][seed % 3],
        field_whr=float(rng.choice([1.2, 2])), field_xyr=float(rng.choice([2, 8])), min_size=float(rng.integers(1, 15)),
        max_nms_num=int(rng.choice([0, 20])), max_post_nms_num=int(rng.choice([0, 7])),
    )  # fmt: skip


def words(param):
    return " ".join(f"{name}: {value!r}" for name, value in param.items())


def compare(text, bottoms, expected):
    _, _, top = run_layer(text, *bottoms, num_top=2, dtype=np.float32)
    assert len(expected) > 2
    np.testing.assert_allclose(top[1].data.reshape(-1, 6), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(top[0].data[:, :, 0, 0], top[1].data[:, :5, 0, 0])


@pytest.mark.parametrize("seed", range(9))
def test_one_box_of_a_place_against_loops(engine, seed):
    rng, param = parameters(seed)
    maps, expected = [rng.standard_normal(shape) for shape in MAPS], []
    for n in range(2):
        boxes = []
        for x, size, rate in zip(maps, SIZES, RATES):
            for row, column in np.ndindex(x.shape[2:]):
                *scores, dx, dy, dw, dh = x[n, :, row, column]
                score = max(scores[1:]) - scores[0]
                place = decoded((dx, dy, dw, dh), size, (column, row), rate, param["field_whr"], param["field_xyr"])
                box, sides = in_picture(*place, (x.shape[3] * rate, x.shape[2] * rate))
                if score >= 0.25 and min(sides) >= param["min_size"]:
                    boxes.append([n, *box, score])
        expected += select(boxes, param, 0)
    compare(output(f"fg_thr: 0.25 {words(param)}"), maps, expected)


@pytest.mark.parametrize("seed", range(9))
def test_several_boxes_of_a_place_against_loops(engine, seed):
    rng, param = parameters(seed)
    bottoms = [rng.random(shape) if i % 2 == 0 else rng.standard_normal(shape) for i, shape in enumerate(GROUPS)]
    expected = []
    for n in range(2):
        boxes = []
        for scores, codes, sizes, rate in zip(bottoms[::2], bottoms[1::2], GROUP_FIELDS, RATES):
            for a, row, column in np.ndindex(len(sizes), *scores.shape[2:]):
                score, code = 1 - scores[n * len(sizes) + a, 0, row, column], codes[n * len(sizes) + a, :, row, column]
                place = decoded(code, sizes[a], (column, row), rate, param["field_whr"], param["field_xyr"])
                box, sides = clipped_pixels(*place, (scores.shape[3] * rate, scores.shape[2] * rate))
                if score >= 0.25 and min(sides) >= param["min_size"]:
                    boxes.append([n, *box, score])
        expected += select(boxes, param, 1)
    compare(group_output(f"fg_thr: 0.25 {words(param)}"), bottoms, expected)


def test_equal_scores_are_taken_from_the_end(engine):
    x = np.zeros((1, 6, 1, 3))
    x[:, 1] = 2
    text = "type: 'BoxOutput' box_output_param { field_w: 20 field_h: 20 downsample_rate: 40 max_post_nms_num: 2 }"
    _, _, top = run_layer(text, x, num_top=2, dtype=np.float32)
    assert top[1].data[:, :, 0, 0].tolist() == [[0, 90, 10, 110, 30, 2], [0, 50, 10, 70, 30, 2]]


@pytest.mark.parametrize(("text", "shapes"), [(output("fg_thr: 99"), MAPS), (group_output("fg_thr: 99"), GROUPS)])
def test_without_any_box_there_is_one_region(engine, text, shapes):
    _, _, top = run_layer(text, *(np.zeros(shape) for shape in shapes), num_top=2, dtype=np.float32)
    assert top[0].data.ravel().tolist() == [0, 1, 1, 10, 10] and not top[1].data.any() and top[1].shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (output(), MAPS[:1], "field_w, field_h and downsample_rate must be given 1 times each"),
        (output(), [MAPS[0], (1, 7, 4, 3)], r"bottom 1 must be \(N, K \+ 4, H, W\), the same N and K in all"),
        (output("nms_type: 'AREA'"), MAPS, "nms_type must be one of IOU, IOMU, IOFU, got 'AREA'"),
        (output("field_whr: 0"), MAPS, "field_whr and field_xyr must be above 0, got 0, 2"),
        (group_output(), GROUPS[:2], "2 bottoms must be two for each box_group_param, got 2 of them"),
        (group_output("box_group_param { field_w: 2 }"), GROUPS + GROUPS[2:], "as many field_w as field_h"),
        (group_output(), [*GROUPS[:3], (2, 5, 4, 3)], r"bottoms 2 and 3 must be \(N A, K, H, W\) and \(N A, 4, H, W\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Box(Group)?Output layer 'layer': .*{words}"):
        build_layer(text, *(np.zeros(shape) for shape in shapes))
