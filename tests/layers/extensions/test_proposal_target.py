"""ProposalTarget, by plain loops."""

import numpy as np
import pytest

from helpers.pixel_scenes import code, iou, near, random_boxes, with_images
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, run_layer

MEAN, STD = [0.0, 0.1, 0.0, -0.1], [0.1, 0.1, 0.2, 0.2]


def target(text="", codes=""):
    numbers = " ".join(f"bbox_mean: {m} bbox_std: {s}" for m, s in zip(MEAN, STD))
    return f"type: 'ProposalTarget' proposal_target_param {{ {text} }} bbox_reg_param {{ {numbers} {codes} }}"


def annotated(rng, count, images, classes=4):
    """Boxes (count, 7) with labels; about a fifth is ignored."""
    boxes = with_images(rng, random_boxes(rng, count), images)
    return np.column_stack([boxes, rng.integers(1, classes, count), rng.random(count) < 0.2])


def scene(seed, images=2):
    rng = np.random.default_rng(seed)
    boxes = annotated(rng, 6, images)
    regions = np.concatenate([near(rng, boxes[:, 1:5], 30), random_boxes(rng, 20)])
    return with_images(rng, regions, images), boxes


class TestProperties(LayerProperties):
    cases = [
        Case(
            target("cls_num: 4 batch_size: 16 num_img_per_batch: 2 img_width: 90 img_height: 80"),
            [(50, 5), (6, 7)],
            [lambda rng, shape: scene(0)[0], lambda rng, shape: scene(0)[1]],
            gradient=(),
            num_top=7,
        )
    ]


def classified(regions, boxes, fg_thr, bg_thr_hg, bg_thr_lw):
    """By loops: for each region the index of its box, its overlap, and "object", "background", "other" or None."""
    found = []
    for region in regions:
        best, largest = -1, 0.0
        for j, box in enumerate(boxes):
            if box[0] == region[0] and (best < 0 or iou(region[1:], box[1:5]) > largest):
                best, largest = j, iou(region[1:], box[1:5])
        if largest >= fg_thr:
            kind = None if boxes[best][6] else "object"
        else:
            kind = "background" if bg_thr_lw <= largest < bg_thr_hg else "other"
        found.append((best, largest, kind))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_against_loops(engine, seed):
    rng = np.random.default_rng(1000 + seed)
    regions, boxes = (values.astype(np.float32) for values in scene(seed))
    thresholds = [(0.5, 0.5, 0.1), (0.6, 0.4, 0.0), (0.5, 0.5, 0.3)][seed % 3]
    batch, fraction = [(-1, 0.25), (12, 0.25), (30, 0.5), (64, 0.1)][seed % 4]
    aware, append, pick, weighted = (bool(v) for v in rng.integers(0, 2, 4))
    words = dict(
        cls_num=4, batch_size=batch, fg_fraction=fraction, num_img_per_batch=2, fg_thr=thresholds[0],
        bg_thr_hg=thresholds[1], bg_thr_lw=thresholds[2], append_gtbox=append, pickup_discard=pick,
        iou_weighted=weighted, bbox_thr_lw=0.55, bbox_thr_hg=0.9,
    )  # fmt: skip
    text = " ".join(f"{name}: {str(value).lower()}" for name, value in words.items())
    _, _, top = run_layer(target(text, f"cls_aware: {str(aware).lower()}"), regions, boxes, num_top=7, dtype=np.float32)
    found, labels, codes, inside, outside, matched, weights = (blob.data.reshape(len(blob.data), -1) for blob in top)
    every = np.concatenate([regions, boxes[:, :5]]) if append else regions
    kinds = classified(every, boxes, *thresholds)
    counts = {kind: sum(each[2] == kind for each in kinds) for kind in ("object", "background", "other")}
    objects = counts["object"] if batch < 0 else min(counts["object"], int(fraction * batch + 0.5))
    background = counts["background"] if batch < 0 else min(counts["background"], batch - objects)
    others = 0 if batch < 0 or not pick else min(counts["other"], batch - objects - background)
    assert len(found) == objects + background + others and (labels > 0).sum() == objects
    left = [tuple(row) for row in every]
    for i, row in enumerate(found):
        at = left.index(tuple(row))  # without replacement
        left[at] = None
        best, overlap, kind = kinds[at]
        assert kind == ("object" if i < objects else "background" if i < objects + background else "other")
        expected_codes, expected_weights = np.zeros((2, 16 if aware else 8))
        if i < objects:
            place = 4 * (int(boxes[best, 5]) if aware else 1)
            expected_codes[place : place + 4] = (np.array(code(boxes[best, 1:5], row[1:])) - MEAN) / STD
            expected_weights[place : place + 4] = 0.55 <= overlap <= 0.9
            np.testing.assert_allclose(matched[i], [boxes[best, 5], *boxes[best, 1:5], overlap], rtol=1e-5)
            assert labels[i] == boxes[best, 5]
        else:
            assert labels[i] == 0 and not matched[i].any()
        np.testing.assert_allclose(codes[i], expected_codes, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal([inside[i], outside[i]], [expected_weights] * 2)
    check_weights(weights.ravel(), matched[:, 5], objects, fraction, weighted)


def check_weights(weights, overlaps, objects, fraction, weighted):
    if not objects:
        return np.testing.assert_array_equal(weights, 1)
    own = overlaps[:objects] if weighted else np.ones(objects)
    np.testing.assert_allclose(weights[:objects], own * fraction * len(weights) / own.sum(), rtol=1e-5)
    np.testing.assert_allclose(
        weights[objects:].sum(), (1 - fraction) * len(weights) * (objects < len(weights)), rtol=1e-5
    )
    return None


def run(text, regions, boxes, **options):
    return [blob.data for blob in run_layer(target(text), regions, boxes, num_top=6, dtype=np.float32, **options)[2]]


def test_background_is_drawn_where_regions_are_missing(engine):
    boxes = np.array([[0, 0, 0, 59, 69, 1, 0], [-1, 0, 0, 59, 69, 1, 0], [1, 0, 0, 59, 69, 0, 0]], float)
    found, labels, *_ = run(
        "cls_num: 2 batch_size: 9 num_img_per_batch: 2 img_width: 60 img_height: 70", np.zeros((0, 5)), boxes
    )
    assert labels.ravel().tolist() == [1] + 8 * [0]
    for image, *box in found[1:, :, 0, 0]:
        x1, y1, x2, y2 = box
        assert image in (0, 1) and 0 <= x1 and 0 <= y1 and x2 - x1 >= 31 and y2 - y1 >= 31
        assert image == 1 or iou(box, boxes[0, 1:5]) < 0.5
    assert len(run("cls_num: 2 batch_size: 9", np.zeros((0, 5)), boxes)[0]) == 1  # without a size of the images


def test_draws_are_those_of_the_state():
    regions, boxes = scene(0)
    text = target("cls_num: 4 batch_size: 8 num_img_per_batch: 2")
    layer, bottom, top = build_layer(text, regions, boxes, num_top=6)
    state, found = layer.state(), []
    for again in (False, False, True):
        if again:
            layer.load_state(state)
        layer.forward(bottom, top)
        found.append(top[0].data.copy())
    assert (found[0] != found[1]).any() and (found[0] == found[2]).all()


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("", [(2, 5), (2, 7)], "cls_num must be at least 1 and batch_size above 0, or -1, got 0 and 128"),
        ("cls_num: 2 batch_size: 0", [(2, 5), (2, 7)], "cls_num must be at least 1 and batch_size above 0"),
        ("cls_num: 2 fg_fraction: 1.5", [(2, 5), (2, 7)], r"fg_fraction must be in \[0, 1\], got 1.5"),
        ("cls_num: 2 bg_thr_hg: 0.6", [(2, 5), (2, 7)], "fg_thr must be above 0 and not below bg_thr_hg"),
        ("cls_num: 2", [(2, 4), (2, 7)], r"bottom 0 must be regions \(R, 5\)"),
        ("cls_num: 2", [(2, 5), (2, 6)], r"bottom 1 must be annotated boxes \(G, 7\)"),
    ],
)
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^ProposalTarget layer 'layer': {words}"):
        build_layer(target(text), *map(np.zeros, shapes), num_top=6)


@pytest.mark.parametrize(
    ("regions", "boxes", "words"),
    [
        ([[1, 0, 0, 9, 9]], [[0, 0, 0, 9, 9, 1, 0]], "is of image 1, but num_img_per_batch is 1"),
        ([[0, 0, 0, 9, 9]], [[0, 0, 0, 9, 9, 2, 0]], "label 2 of a box is not of an object: cls_num is 2"),
        ([[0, 0, 0, 9, 9]], [[0, 0, 0, 9, 9, -1, 0]], "label -1 of a box is not of an object"),
        (np.zeros((0, 5)), [[-1, 0, 0, 0, 0, 0, 0]], "there is no region, and none could be drawn"),
    ],
)
def test_values_that_do_not_fit(regions, boxes, words):
    with pytest.raises(LayerError, match=words):
        run("cls_num: 2 num_img_per_batch: 1", np.array(regions, float), np.array(boxes, float))


def test_statistics_are_four_of_each():
    text = "type: 'ProposalTarget' proposal_target_param { cls_num: 2 } bbox_reg_param { bbox_mean: 0 bbox_std: 0.1 }"
    with pytest.raises(LayerError, match="bbox_reg_param must have four bbox_mean and four bbox_std above 0"):
        build_layer(text, np.zeros((2, 5)), np.zeros((2, 7)), num_top=6)
