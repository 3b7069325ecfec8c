"""Samplers of parts of an image, against plain loops over the parts and boxes."""

import numpy as np
import pytest

from minicaffe.data.box_rows import areas, label_rows, projected
from minicaffe.data.distort import Distorter
from minicaffe.data.part import Expander, Part
from minicaffe.data.sampling import Jitter, Samplers
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2, parse_text

BOXES = np.array([[0.1, 0.1, 0.4, 0.5], [0.5, 0.3, 0.9, 0.95], [0.2, 0.2, 0.2, 0.2]], np.float32)


def samplers(*texts):
    return Samplers([parse_text(text, caffe_pb2.BatchSampler()) for text in texts])


def drawn(made, boxes, count, seed=0):
    generator = np.random.default_rng(seed)
    return [made.draw(generator, np.asarray(boxes, np.float32).reshape(-1, 4)) for _ in range(count)]


def shared_area(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


MEASURES = {
    "jaccard_overlap": lambda part, box, both: both / (area(part) + area(box) - both),
    "sample_coverage": lambda part, box, both: both / area(part),
    "object_coverage": lambda part, box, both: both / area(box) if both else 0,
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("low", "high"), [(0.3, None), (None, 0.1), (0.2, 0.6)])
def test_parts_meet_the_constraint(measure, low, high):
    limits = "".join(
        f"{side}_{measure}: {value} " for side, value in (("min", low), ("max", high)) if value is not None
    )
    made = samplers(
        f"sampler {{ min_scale: 0.1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }} sample_constraint {{ {limits} }}"
    )
    parts = made._parts(np.random.default_rng(1).random((100, 4)))
    low, high = -1 if low is None else np.float32(low), 2 if high is None else np.float32(high)
    for boxes in (BOXES.astype(float), BOXES[:1].astype(float)):
        expected = [
            any(low <= MEASURES[measure](part, box, shared_area(part, box)) <= high for box in boxes) for part in parts
        ]
        assert made._accepted(parts, boxes).tolist() == expected
    assert 5 < sum(expected) < 100
    assert not made._accepted(parts, np.empty((0, 4))).any()  # no box meets it


def test_only_the_first_measure_counts():
    """As in the fork, where a box that has passed one test makes the part accepted."""
    overlap = "sampler { min_scale: 0.1 } sample_constraint { min_jaccard_overlap: 0.2 %s }"
    one, both = (samplers(overlap % more) for more in ("", "min_object_coverage: 2"))
    for a, b in zip(drawn(one, BOXES, 50), drawn(both, BOXES, 50), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sizes_and_positions():
    made = samplers(
        "sampler { min_scale: 0.2 max_scale: 0.8 min_aspect_ratio: 0.25 max_aspect_ratio: 4 } max_trials: 1"
    )
    parts = np.array(drawn(made, [], 4000))
    assert (parts[:, :2] >= 0).all() and (parts[:, 2:] <= 1 + 1e-12).all()
    width, height = (parts[:, 2:] - parts[:, :2]).T
    scale, ratio = np.sqrt(width * height), width / height
    np.testing.assert_allclose(scale.mean(), 0.5, atol=0.01)
    assert 0.2 <= scale.min() < 0.21 and 0.79 < scale.max() <= 0.8
    assert (ratio >= np.maximum(0.25, scale**2) - 1e-9).all() and (ratio <= np.minimum(4, scale**-2) + 1e-9).all()
    np.testing.assert_allclose((parts[:, 0] / (1 - width).clip(1e-9))[width < 0.99].mean(), 0.5, atol=0.03)


def test_each_part_that_is_kept_has_the_same_weight():
    """A sampler that keeps three parts counts three times as much as one that keeps one."""
    one, three = "max_sample: 1", "sampler { min_scale: 0.5 max_scale: 0.5 } max_sample: 3"
    parts = drawn(samplers(one, three), [], 4000)
    whole = np.mean([area(part) == 1 for part in parts])
    np.testing.assert_allclose(whole, 0.25, atol=0.02)


def test_the_first_parts_are_kept():
    """Of many trials those after max_sample do not count: without a constraint it is the first trial."""
    parts = drawn(samplers("sampler { min_scale: 0.1 } max_sample: 1 max_trials: 50"), [], 2000)
    np.testing.assert_allclose(np.mean([np.sqrt(area(part)) for part in parts]), 0.55, atol=0.02)


@pytest.mark.parametrize(
    "text",
    ["max_sample: 0", "max_trials: 0", "use_original_image: false", "sample_constraint { min_jaccard_overlap: 2 }"],
)
def test_no_part(text):
    assert drawn(samplers(text), BOXES, 3) == [None] * 3


# -- boxes -------------------------------------------------------------------------------------------------------------


def test_boxes_of_a_region():
    rows = np.array(
        [[1, 0, 0.1, 0.2, 0.5, 0.6, 0], [2, 0, 0.6, 0.6, 0.9, 0.9, 1], [3, 1, 0.5, 0, 0.7, 0.1, 0]], np.float32
    )
    result = projected(rows, (0.3, 0.1, 0.5, 0.5), None)
    np.testing.assert_allclose(result, [[1, 0, 0, 0.25, 1, 1, 0]], atol=1e-6)
    wider = projected(rows, (-1, -1, 1, 1), None)
    np.testing.assert_allclose(wider[:, 2:6], (rows[:, 2:6] + 1) / 2, atol=1e-6)


def test_a_batch_without_boxes_has_one_row():
    assert label_rows([np.empty((0, 7), np.float32)] * 3).tolist() == [[[[-1.0] * 8]]]


def test_areas_of_boxes_turned_inside_out():
    assert areas(np.array([[0, 0, 2, 3], [2, 3, 0, 0], [1, 0, 0, 3]])).tolist() == [6, 0, 0]


# -- parts of images ---------------------------------------------------------------------------------------------------


def test_expansions():
    made = Expander(caffe_pb2.ExpansionParameter(prob=0.25, max_expand_ratio=3))
    generator = np.random.default_rng(2)
    drawn = [made.draw(generator, 100, 200) for _ in range(4000)]
    grown = np.array([part for part in drawn if part != Part(0, 0, 100, 200)])
    np.testing.assert_allclose(len(grown) / 4000, 0.25, atol=0.02)
    top, left, height, width = grown.T
    np.testing.assert_allclose(width, 2 * height, atol=2)
    np.testing.assert_allclose(height.mean(), 200, atol=5)
    assert (top <= 0).all() and (left <= 0).all() and (top + height >= 100).all() and (left + width >= 200).all()
    np.testing.assert_allclose((-top / np.maximum(height - 100, 1)).mean(), 0.5, atol=0.03)


def test_a_part_inside_and_outside():
    part = Part(-10, 5, 40, 20)
    assert part.within(20, 15) == Part(0, 5, 20, 10)
    assert part.inner((0.25, 0.5, 0.75, 1)) == Part(10, 10, 20, 10)
    assert part.inner((0.99, 0.99, 0.991, 0.991)) == Part(29, 24, 1, 1)
    assert Part(30, 30, 5, 5).within(20, 20) == Part(20, 20, 0, 0)


# -- distortions -------------------------------------------------------------------------------------------------------


def distorter(text):
    return Distorter(parse_text(text, caffe_pb2.DistortionParameter()))


def distortion(text, seed=0):
    return distorter(text).draw(np.random.default_rng(seed))


IMAGE = np.random.default_rng(3).integers(0, 256, (3, 5, 6), np.uint8)


def test_brightness_and_contrast():
    changed = distortion(
        "brightness_prob: 1 brightness_delta: 40 contrast_prob: 1 contrast_lower: 1.2 contrast_upper: 1.5"
    )
    brighter = np.rint(IMAGE + np.float32(changed.brightness)).clip(0, 255)
    expected = np.rint(brighter * np.float32(changed.contrast)).clip(0, 255)
    np.testing.assert_array_equal(changed(IMAGE), expected)
    assert -40 <= changed.brightness <= 40 and 1.2 <= changed.contrast <= 1.5 and changed.hue is None


@pytest.mark.parametrize("seed", range(4))
def test_contrast_comes_before_saturation_or_after_it(seed):
    changed = distortion(
        "contrast_prob: 1 contrast_lower: 2 contrast_upper: 2 saturation_prob: 1",
        seed,
    )
    gray_first = np.rint(np.broadcast_to(IMAGE.max(0), IMAGE.shape) * 2.0).clip(0, 255)
    contrast_first = np.broadcast_to(np.rint(IMAGE * 2.0).clip(0, 255).max(0), IMAGE.shape)
    np.testing.assert_array_equal(changed(IMAGE), gray_first if changed.contrast_last else contrast_first)


def test_hue_turns_colours():
    red, up = np.array([0, 0, 255], np.uint8)[:, None, None], distortion("hue_prob: 1 hue_delta: 60")
    assert up._replace(hue=60.0)(red).ravel().tolist() == [0, 255, 0]
    assert up._replace(hue=-60.0)(red).ravel().tolist() == [0, 0, 255]  # not below 0
    gray = np.array([[[40]], [[40]], [[40]]], np.uint8)
    assert up(gray).ravel().tolist() == [40] * 3


def test_order_of_channels():
    orders = {distortion("random_order_prob: 1", seed).order for seed in range(60)}
    assert len(orders) == 6
    changed = distortion("random_order_prob: 1", 1)
    np.testing.assert_array_equal(changed(IMAGE), IMAGE[list(changed.order)])


def test_probabilities():
    text = "brightness_prob: 0.3 hue_prob: 0.6 contrast_prob: 0.1 saturation_prob: 0.9 random_order_prob: 0.5"
    drawn = [distortion(text, seed) for seed in range(1500)]
    for name, prob in (("brightness", 0.3), ("contrast", 0.1), ("saturation", 0.9), ("hue", 0.6), ("order", 0.5)):
        np.testing.assert_allclose(np.mean([getattr(each, name) is not None for each in drawn]), prob, atol=0.05)
    np.testing.assert_allclose(np.mean([each.contrast_last for each in drawn]), 0.5, atol=0.05)


def test_jolibrains_probability_is_that_of_the_selected_changes():
    limits = "brightness_delta: 9 contrast_lower: 0.5 contrast_upper: 1 hue_delta: 9 saturation_upper: 2"
    half = distorter(f"prob: 0.4 brightness: true hue: true random_order: true {limits}")
    generator = np.random.default_rng(0)
    made = [half.draw(generator) for _ in range(2000)]
    for name in ("brightness", "hue", "order"):
        assert abs(sum(getattr(each, name) is not None for each in made) / 2000 - 0.4) < 0.05
    assert all(each.contrast is None and each.saturation is None for each in made)
    assert distorter(f"prob: 1 all_effects: true {limits}").draw(generator).saturation is not None
    assert distorter(f"all_effects: true {limits}").draw(generator).saturation is None
    with pytest.raises(DataError, match="hue_prob is SSD's and prob jolibrain's: give one kind of them"):
        distorter("prob: 0.5 hue_prob: 0.5")


def test_gray_images_keep_their_channel():
    changed = distortion("hue_prob: 1 hue_delta: 60 saturation_prob: 1 random_order_prob: 1")
    np.testing.assert_array_equal(changed(IMAGE[:1]), IMAGE[:1])


@pytest.mark.parametrize("same", [False, True])
def test_jitter(same):
    jitter, generator = Jitter(0.4, same), np.random.default_rng(0)
    parts = [jitter.draw(generator, np.zeros((0, 4))) for _ in range(4000)]
    drawn = np.array([part for part in parts if part is not None])
    lost = 1 - (drawn[:, 2:] - drawn[:, :2])
    assert abs(len(drawn) / 4000 - 0.8) < 0.02
    assert (drawn >= 0).all() and (drawn <= 1).all() and (lost > 0).all() and (lost < 0.4).all()
    assert (lost[:, 0] == pytest.approx(lost[:, 1])) == same
    above = (lost[:, 0] > 0.2).mean()  # half of those with the whole jitter, 3 of 4
    assert abs(above - 0.375) < 0.03
    assert abs((drawn[:, 0] / lost[:, 0]).mean() - 0.5) < 0.02


@pytest.mark.parametrize("jitter", [-0.1, 1, np.nan])
def test_a_jitter_that_is_no_share(jitter):
    with pytest.raises(DataError, match="yolo_data_jitter must be at least 0 and below 1"):
        Jitter(jitter, False)
