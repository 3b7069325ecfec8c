"""CombinedMargin: the cosine of the label's angle, changed."""

import math

import numpy as np
import pytest

from helpers.label_margins import case, changed, cosines
from minicaffe.testing import LayerProperties, assert_close

COMBINED = "type: 'CombinedMargin' combined_margin_param {{ {} }}"


class TestProperties(LayerProperties):
    cases = [
        case(COMBINED.format("")),
        case(COMBINED.format("m1: 1 m2: 0.5 m3: 0"), (4, 5, 1, 1)),
    ]


@pytest.mark.parametrize(("m1", "m2", "m3"), [(4, 0.5, 0.35), (1, 0, 0.35), (1, 0.5, 0), (1.35, 0, 0)])
def test_combined_margin(m1, m2, m3, engine):
    x, t = cosines(np.random.default_rng(0), (6, 4)), [0.0, 1.0, 2.0, 3.0, -1.0, 0.0]
    y, dx = changed(COMBINED.format(f"m1: {m1} m2: {m2} m3: {m3}"), x, t)
    expected, slopes = x.copy(), np.ones_like(x)
    for n, k in enumerate(map(int, t)):
        if k >= 0:
            angle = math.acos(x[n, k])
            expected[n, k] = math.cos(m1 * angle + m2) - m3
            slopes[n, k] = m1 * math.sin(m1 * angle + m2) / math.sin(angle)
    assert_close(y, expected)
    assert_close(dx, slopes)


def test_cosines_of_1_and_beyond_give_finite_gradients(engine):
    y, dx = changed(COMBINED.format(""), [[1.0, 0], [1.00001, 0], [-1.0, 0], [-1.00001, 0]], np.zeros(4))
    assert np.isfinite(y).all() and np.isfinite(dx).all()
