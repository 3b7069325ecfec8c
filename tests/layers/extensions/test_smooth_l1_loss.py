"""SmoothL1Loss."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def loss(text=""):
    return f"type: 'SmoothL1Loss' smooth_l1_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(loss(), [(4, 3), (4, 3)]),
        Case(loss("sigma: 3"), [(4, 3), (4, 3), (4, 3)], gradient=[0, 1]),
        Case(loss("sigma: 0.5"), [(4, 3, 2), (4, 3, 2), (4, 3, 2), (4, 3, 2)], gradient=[0, 1]),
    ]


def test_values_against_a_loop():
    x, t, w_in, w_out = np.random.default_rng(0).standard_normal((4, 5, 3))
    total = 0.0
    for i in np.ndindex(5, 3):
        d = abs(w_in[i] * (x[i] - t[i]))
        total += w_out[i] * (0.5 * 4 * d * d if d < 0.25 else d - 0.125)
    _, _, top = run_layer(loss("sigma: 2"), x, t, w_in, w_out)
    np.testing.assert_allclose(top[0].data, total / 5)


def test_shapes_that_differ_are_refused():
    with pytest.raises(LayerError, match=r"bottom 1 must have the shape of bottom 0, \(2, 3\), got \(2, 4\)"):
        run_layer(loss(), np.zeros((2, 3)), np.zeros((2, 4)))


def test_the_diffs_of_weights_are_left_alone(engine):
    """Also with propagate_down: weights computed by learned layers need a gradient, and the fork gives none."""
    layer, bottom, top = run_layer(loss(), *np.random.default_rng(0).standard_normal((4, 2, 3)), dtype=np.float32)
    for blob in bottom:
        blob.diff[...] = 7
    layer.backward(top, [True] * 4, bottom)
    assert (bottom[0].diff != 7).all()
    np.testing.assert_allclose(bottom[1].diff, -bottom[0].diff)
    assert (bottom[2].diff == 7).all() and (bottom[3].diff == 7).all()
