"""CosinAddm: a margin is added to the label's angle."""

import math

import numpy as np
import pytest

from helpers.label_margins import case, changed, cosines
from minicaffe.errors import LayerError
from minicaffe.testing import LayerProperties, assert_close, run_layer

ARC = "type: 'CosinAddm' cosin_add_m_param {{ {} }}"


class TestProperties(LayerProperties):
    cases = [case(ARC.format("")), case(ARC.format("m: 1.2"), (4, 5, 1, 1))]


def test_cosin_add_m(engine):
    x, t = cosines(np.random.default_rng(0), (40, 2)), np.arange(40.0) % 2
    y, dx = changed(ARC.format("m: 0.5"), x, t)
    expected, slopes, beyond = x.copy(), np.ones_like(x), 0
    for n, k in enumerate(map(int, t)):
        angle = math.acos(x[n, k])
        if angle + 0.5 < math.pi:
            expected[n, k] = math.cos(angle + 0.5)
            slopes[n, k] = math.sin(angle + 0.5) / math.sin(angle)
        else:
            beyond += 1
            expected[n, k] -= 0.5 * math.sin(math.pi - 0.5)
    assert 0 < beyond < 40
    assert_close(y, expected)
    assert_close(dx, slopes)


def test_cosines_of_1_and_beyond_give_finite_gradients(engine):
    y, dx = changed(ARC.format(""), [[1.0, 0], [1.00001, 0], [-1.0, 0], [-1.00001, 0]], np.zeros(4))
    assert np.isfinite(y).all() and np.isfinite(dx).all()


def test_a_label_above_the_classes_is_an_error():
    with pytest.raises(LayerError, match="^CosinAddm layer 'layer': label 2 is out of range: there are 2 classes"):
        run_layer(ARC.format(""), np.zeros((1, 2)), [2.0])


def test_there_must_be_a_label_for_each_sample():
    with pytest.raises(LayerError, match=r"bottom 1 must hold one label for each sample of bottom 0 \(2, 3\), got"):
        run_layer(ARC.format(""), np.zeros((2, 3)), np.zeros(3))
