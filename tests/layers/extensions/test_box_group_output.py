"""BoxGroupOutput, by plain loops."""

import numpy as np
import pytest

from helpers.map_scenes import REG, compare, decoded, parameters, select, words
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer

SIZES, RATES = [(12, 20), (30, 24)], [4, 8]  # width, height
GROUPS = [(4, 3, 8, 6), (4, 4, 8, 6), (2, 3, 4, 3), (2, 4, 4, 3)]
GROUP_FIELDS = [SIZES, [(25, 40)]]


def group_output(text="min_size: 5"):
    second = "box_group_param { field_w: 25 field_h: 40 stride: 8 }"
    first = "box_group_param { " + " ".join(f"field_w: {w} field_h: {h}" for w, h in SIZES) + " stride: 4 }"
    return f"type: 'BoxGroupOutput' {REG} box_group_output_param {{ {first} {second} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(group_output("fg_thr: 0.8 min_size: 5 max_post_nms_num: 9"), GROUPS, np.random.Generator.random, (),
             num_top=2),
    ]  # fmt: skip


def clipped_pixels(start, sides, picture):
    """BoxGroupOutput's box of pixels, cut off; the first and last pixels, and sides."""
    last = [min(value + side - 1, limit) for value, side, limit in zip(start, sides, picture)]
    start = [max(value, 0) for value in start]
    return [*start, *last], [end - value + 1 for value, end in zip(start, last)]


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


def test_without_any_box_there_is_one_region(engine):
    _, _, top = run_layer(group_output("fg_thr: 99"), *map(np.zeros, GROUPS), num_top=2, dtype=np.float32)
    assert top[0].data.ravel().tolist() == [0, 1, 1, 10, 10] and not top[1].data.any() and top[1].shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (group_output(), GROUPS[:2], "2 bottoms must be two for each box_group_param, got 2 of them"),
        (group_output("box_group_param { field_w: 2 }"), GROUPS + GROUPS[2:], "as many field_w as field_h"),
        (group_output(), [*GROUPS[:3], (2, 5, 4, 3)], r"bottoms 2 and 3 must be \(N A, K, H, W\) and \(N A, 4, H, W\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^BoxGroupOutput layer 'layer': .*{words}"):
        build_layer(text, *(np.zeros(shape) for shape in shapes))
