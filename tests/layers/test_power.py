"""Power."""

import numpy as np
import pytest

from minicaffe.testing import Case, LayerProperties, positive, run_layer


def power(text=""):
    return f"type: 'Power' power_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(power(), [(2, 3)]),
        Case(power("scale: -0.5 shift: 2"), [(2, 3)]),
        Case(power("power: 2 scale: 0.7 shift: -0.3"), [(2, 3, 2)]),
        Case(power("power: 3"), [(2, 3)]),
        Case(power("power: -1.5 scale: 2 shift: 0.1"), [(2, 3)], positive),
        Case(power("power: 0.37"), [(2, 3)], positive),
        Case(power("power: 0 shift: 3"), [(2, 3)]),
        Case(power("scale: 0 shift: 3 power: 2"), [(2, 3)]),
    ]


@pytest.mark.parametrize(
    ("text", "values", "slopes"),
    [
        ("power: 3", [-8, 0, 27], [12, 0, 27]),
        ("power: 2 scale: 2 shift: 1", [9, 1, 49], [-12, 4, 28]),
        ("power: 0 scale: 2 shift: 1", [1, 1, 1], [0, 0, 0]),
        ("power: 2 scale: 0 shift: 3", [9, 9, 9], [0, 0, 0]),
        ("power: 0 shift: 0", [1, 1, 1], [0, 0, 0]),
    ],
)
def test_values_and_slopes(text, values, slopes):
    layer, bottom, top = run_layer(power(text), [-2.0, 0.0, 3.0])
    np.testing.assert_allclose(top[0].data, values)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, slopes)


def test_in_place_the_diff_of_the_top_is_lost_as_in_the_original():
    layer, bottom, _ = run_layer(power("scale: 3"), [1.0, 2.0])
    layer.initialize(bottom, bottom)
    layer.forward(bottom, bottom)
    bottom[0].diff[...] = [5, 7]
    layer.backward(bottom, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [9, 9])
