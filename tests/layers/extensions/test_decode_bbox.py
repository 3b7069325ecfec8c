"""DecodeBBox, by plain loops."""

import numpy as np
import pytest

from helpers.pixel_scenes import decoded, random_boxes, with_images
from minicaffe.errors import LayerError
from minicaffe.proto import TEST, TRAIN
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer

STD = [0.1, 0.1, 0.2, 0.2]
TEXT = "type: 'DecodeBBox' bbox_reg_param { " + " ".join(f"bbox_mean: 0.5 bbox_std: {s}" for s in STD) + " }"


def scene(count=12):
    rng = np.random.default_rng(0)
    codes, regions = rng.standard_normal((count, 8)), with_images(rng, random_boxes(rng, count), 2)
    codes[3, 6] = -60  # a box narrower than a pixel
    return codes, regions, np.column_stack([np.zeros((count, 5)), rng.random(count)])


class TestProperties(LayerProperties):
    cases = [
        Case(TEXT, [(12, 8), (12, 5), (12, 6)][:count], [lambda rng, shape, i=i: scene()[i] for i in range(count)], (),
             phase=phase)
        for count, phase in ((2, TRAIN), (3, TRAIN), (2, TEST))
    ]  # fmt: skip


@pytest.mark.parametrize(("phase", "bottoms"), [(TRAIN, 2), (TRAIN, 3), (TEST, 2), (TEST, 3)])
def test_against_a_loop(engine, phase, bottoms):
    codes, regions, matched = scene()
    matched[5, 5], expected = 0.75, []
    for i, (image, *region) in enumerate(regions):
        box = decoded(codes[i, 4:] * STD + 0.5, region)
        malformed = box[2] < box[0] or box[3] < box[1]
        assert malformed == (i == 3)
        if phase == TEST or not (malformed or (bottoms == 3 and matched[i, 5] >= 0.75)):
            expected.append([image, *box])
    text = TEXT + " decode_bbox_param { gt_iou_thr: 0.75 }"
    _, _, top = run_layer(text, *(codes, regions, matched)[:bottoms], phase=phase, dtype=np.float32)
    assert top[0].shape == (len(expected), 5, 1, 1) and (bottoms == 2 or phase == TEST or len(expected) < 11)
    np.testing.assert_allclose(top[0].data.reshape(-1, 5), expected, rtol=1e-4, atol=1e-4)


def test_no_regions(engine):
    assert run_layer(TEXT, np.zeros((0, 8)), np.zeros((0, 5)), dtype=np.float32)[2][0].shape == (0, 5, 1, 1)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(3, 4), (3, 5)], r"bottom 0 must be \(R, 8\), got \(3, 4\)"),
        ([(3, 8), (2, 5)], r"bottom 1 must be \(R, 5\), got \(2, 5\)"),
        ([(3, 8), (3, 5), (2, 6)], r"bottom 2 must be the matched boxes \(R, 6\), got \(2, 6\)"),
    ],
)
def test_errors_name_the_layer(shapes, words):
    with pytest.raises(LayerError, match=f"^DecodeBBox layer 'layer': {words}"):
        build_layer(TEXT, *map(np.zeros, shapes))
