"""PriorBox."""

import logging

import numpy as np
import pytest

from helpers import golden
from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def priors(text):
    return f"type: 'PriorBox' prior_box_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(priors("min_size: 4 max_size: 9 aspect_ratio: 2 clip: true"), [(2, 3, 2, 3), (2, 3, 16, 24)]),
        Case(priors("min_size: 4 min_size: 8 flip: false aspect_ratio: 3"), [(1, 3, 2, 2), (1, 3, 10, 10)]),
        Case(priors("min_size: 4 min_size: 8 min_size: 16 densify: true"), [(1, 3, 2, 2), (1, 3, 10, 10)]),
        Case(priors("min_size: 4 max_size: 9 denser_prior_boxes: true"), [(1, 3, 2, 2), (1, 3, 10, 10)]),
    ]


def run(text, features, image):
    return top_of(text, np.zeros(features), np.zeros(image))


def test_boxes_and_variances():
    y = run(priors("min_size: 6 max_size: 24 aspect_ratio: 4 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4"),
            (1, 8, 2, 4), (1, 3, 20, 40))  # fmt: skip
    assert y.shape == (1, 2, 2 * 4 * 4 * 4)
    boxes = y[0, 0].reshape(2, 4, 4, 4)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert_close(centres[..., 0], np.broadcast_to((np.arange(4) + 0.5)[:, None] / 4, (2, 4, 4)), rtol=1e-9)
    assert_close(centres[..., 1], np.broadcast_to((np.arange(2) + 0.5)[:, None, None] / 2, (2, 4, 4)), rtol=1e-9)
    sizes = (boxes[1, 2, :, 2:] - boxes[1, 2, :, :2]) * [40, 20]
    assert_close(sizes, [[6, 6], [12, 12], [12, 3], [3, 12]], rtol=1e-9)
    assert_close(y[0, 1], np.tile([0.1, 0.2, 0.3, 0.4], 32), rtol=1e-6)


def test_image_size_steps_and_offset_may_be_given():
    y = run(priors("min_size: 2 img_h: 10 img_w: 20 step: 4 offset: 0 clip: true"), (1, 1, 2, 2), (1, 1, 99, 99))
    assert_close(y[0, 0].reshape(2, 2, 4)[1, 1], [3 / 20, 3 / 10, 5 / 20, 5 / 10], rtol=1e-9)
    assert_close(y[0, 0].reshape(2, 2, 4)[0, 0], [0, 0, 1 / 20, 1 / 10], rtol=1e-9)
    assert_close(y[0, 1], np.full(16, 0.1), rtol=1e-6)


def test_a_ratio_counts_once():
    assert run(
        priors("min_size: 2 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 2 aspect_ratio: 0.5"),
        (1, 1, 1, 1),
        (1, 1, 9, 9),
    ).shape == (1, 2, 12)


@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem) for p in golden.SSD if p.stem.startswith("PriorBox")])
def test_the_original_to_the_bit(path):
    case = golden.read(path)
    net = net_from_text(str(case["prototxt"]))
    net.forward()
    for blob, expected in golden.values(case, "out"):
        np.testing.assert_array_equal(net.blobs[blob].data, expected)


def test_sizes_are_cut_after_they_are_compared(caplog):
    with caplog.at_level(logging.WARNING):
        y = run(priors("min_size: 0.6 min_size: 3.5 max_size: 1 max_size: 3.6"), (1, 1, 1, 1), (1, 1, 1, 1))
    sizes = np.diff(y[0, 0].reshape(4, 2, 2), axis=1)[:, 0]
    assert_close(sizes, [[0, 0], [0, 0], [3, 3], [3, 3]], rtol=1e-6)
    assert "min_size below 1 is cut to 0: its boxes have no area" in caplog.text


def test_faceboxes_anchors():
    y = run(priors("min_size: 32 min_size: 64 min_size: 128 densify: true"), (1, 1, 1, 2), (1, 1, 32, 64))
    boxes = y[0, 0].reshape(2, 21, 2, 2) * [64, 32]
    at_16 = [(x, y, 32) for y in (-16, -8, 0, 8) for x in (-16, -8, 0, 8)]
    at_16 += [(x, y, 64) for y in (-16, 0) for x in (-16, 0)] + [(0, 0, 128)]
    for place, centre in enumerate([(16, 16), (48, 16)]):
        for box, (x, y, size) in zip(boxes[place], at_16):
            middle = np.add(centre, (x, y))
            assert_close(box, [middle - (size - 1) / 2, middle + (size - 1) / 2], rtol=1e-6)


def test_textboxes_boxes_twice():
    plain = "min_size: 4 max_size: 9 aspect_ratio: 2 step: 8"
    once = run(priors(plain), (1, 1, 2, 2), (1, 1, 16, 16))
    twice = run(priors(plain + " denser_prior_boxes: true"), (1, 1, 2, 2), (1, 1, 16, 16))
    once, twice = once[0, 0].reshape(4, 4, 1, 4), twice[0, 0].reshape(4, 4, 2, 4)
    assert_close(twice, once + [[0, 0, 0, 0], [0, 0.25, 0, 0.25]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs at least one min_size"),
        ("min_size: 4 max_size: 3", "max_size must be larger than min_size"),
        ("min_size: 4 densify: true", "densify needs three min_size"),
        ("min_size: inf", "min_size must be finite and above 0"),
        ("min_size: 4 aspect_ratio: 0", "aspect_ratio must be finite and above 0"),
        ("min_size: 4 variance: 1 variance: 2", "variance must be one or four positive numbers"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^PriorBox layer 'layer': {words}"):
        run(priors(text), (1, 1, 2, 2), (1, 1, 8, 8))


@pytest.mark.parametrize("more, warned", [("", True), (" densify: false", False), (" densify: true", False)])
def test_the_sizes_of_faceboxes_give_a_hint(more, warned, caplog):
    run(priors("min_size: 32 min_size: 64 min_size: 128" + more), (1, 1, 1, 2), (1, 1, 32, 64))
    assert ("write densify: true" in caplog.text) is warned
