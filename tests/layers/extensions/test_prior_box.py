"""PriorBox."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, top_of


def priors(text):
    return f"type: 'PriorBox' prior_box_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(priors("min_size: 4 max_size: 9 aspect_ratio: 2 clip: true"), [(2, 3, 2, 3), (2, 3, 16, 24)]),
        Case(priors("min_size: 4 min_size: 8 flip: false aspect_ratio: 3"), [(1, 3, 2, 2), (1, 3, 10, 10)]),
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs at least one min_size"),
        ("min_size: 4 max_size: 3", "max_size must be larger than min_size"),
        ("min_size: inf", "min_size must be finite and above 0"),
        ("min_size: 4 aspect_ratio: 0", "aspect_ratio must be finite and above 0"),
        ("min_size: 4 variance: 1 variance: 2", "variance must be one or four positive numbers"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^PriorBox layer 'layer': {words}"):
        run(priors(text), (1, 1, 2, 2), (1, 1, 8, 8))
