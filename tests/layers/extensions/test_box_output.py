"""BoxOutput, by plain loops."""

import numpy as np
import pytest

from helpers.map_scenes import REG, compare, decoded, parameters, select, words
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, normal, run_layer

SIZES, RATES = [(12, 20), (30, 24)], [4, 8]  # width, height


def output(text="min_size: 5"):
    fields = " ".join(f"field_w: {w} field_h: {h} downsample_rate: {r}" for (w, h), r in zip(SIZES, RATES))
    return f"type: 'BoxOutput' {REG} box_output_param {{ {fields} {text} }}"


MAPS = [(2, 7, 8, 6), (2, 7, 4, 3)]


class TestProperties(LayerProperties):
    cases = [
        Case(output("fg_thr: 1 min_size: 5"), MAPS, normal, (), num_top=2),
        Case(output("fg_thr: 99"), MAPS, normal, (), num_top=2),
    ]


def in_picture(start, sides, picture):
    """BoxOutput's box: moved to the right and down into the picture, then cut off; the corners, and sides."""
    start = [max(value, 0) for value in start]
    sides = [min(side, limit - value) for side, limit, value in zip(sides, picture, start)]
    return [*start, *(value + side for value, side in zip(start, sides))], sides


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


def test_equal_scores_are_taken_from_the_end(engine):
    x = np.zeros((1, 6, 1, 3))
    x[:, 1] = 2
    text = "type: 'BoxOutput' box_output_param { field_w: 20 field_h: 20 downsample_rate: 40 max_post_nms_num: 2 }"
    _, _, top = run_layer(text, x, num_top=2, dtype=np.float32)
    assert top[1].data[:, :, 0, 0].tolist() == [[0, 90, 10, 110, 30, 2], [0, 50, 10, 70, 30, 2]]


def test_without_any_box_there_is_one_region(engine):
    _, _, top = run_layer(output("fg_thr: 99"), *map(np.zeros, MAPS), num_top=2, dtype=np.float32)
    assert top[0].data.ravel().tolist() == [0, 1, 1, 10, 10] and not top[1].data.any() and top[1].shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (output(), MAPS[:1], "field_w, field_h and downsample_rate must be given 1 times each"),
        (output(), [MAPS[0], (1, 7, 4, 3)], r"bottom 1 must be \(N, K \+ 4, H, W\), the same N and K in all"),
        (output("nms_type: 'AREA'"), MAPS, "nms_type must be one of IOU, IOMU, IOFU, got 'AREA'"),
        (output("field_whr: 0"), MAPS, "field_whr and field_xyr must be above 0, got 0, 2"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^BoxOutput layer 'layer': .*{words}"):
        build_layer(text, *(np.zeros(shape) for shape in shapes))
