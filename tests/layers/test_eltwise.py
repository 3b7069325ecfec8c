"""Eltwise."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, distinct, run_layer, top_of


def eltwise(text=""):
    return f"type: 'Eltwise' eltwise_param {{ {text} }}"


def shifted(step):
    """As `distinct`, plus `step`: with other steps no numbers are equal."""
    return lambda rng, shape: distinct(rng, shape) + step


class TestProperties(LayerProperties):
    cases = [
        Case(eltwise(), [(2, 3)] * 2),
        Case(eltwise("coeff: 2 coeff: -0.5 coeff: 1"), [(2, 3, 2)] * 3),
        Case(eltwise("operation: PROD"), [(2, 3)] * 2),
        Case(eltwise("operation: PROD"), [(2, 3)] * 4),
        Case(eltwise("operation: PROD stable_prod_grad: false"), [(2, 3)] * 3),
        Case(eltwise("operation: MAX"), [(2, 3, 2)] * 2, [distinct, shifted(0.01)]),
        Case(eltwise("operation: MAX"), [(2, 3, 2)] * 3, [distinct, shifted(0.01), shifted(0.03)]),
    ]


def test_values():
    a, b, c = np.random.default_rng(0).standard_normal((3, 2, 5))
    np.testing.assert_allclose(top_of(eltwise(), a, b, c), a + b + c)
    np.testing.assert_allclose(top_of(eltwise("coeff: 2 coeff: -1"), a, b), 2 * a - b)
    np.testing.assert_allclose(top_of(eltwise("operation: PROD"), a, b, c), a * b * c)
    np.testing.assert_allclose(top_of(eltwise("operation: MAX"), a, b, c), np.max([a, b, c], axis=0))


def test_on_a_tie_the_gradient_goes_to_the_second():
    layer, bottom, top = run_layer(eltwise("operation: MAX"), [1.0], [1.0], [1.0])
    top[0].diff[...] = 3
    layer.backward(top, [True] * 3, bottom)
    assert [float(b.diff[0]) for b in bottom] == [0, 3, 0]


def test_a_stable_product_has_a_gradient_at_zero():
    layer, bottom, top = run_layer(eltwise("operation: PROD"), [0.0], [4.0])
    top[0].diff[...] = 1
    layer.backward(top, [True] * 2, bottom)
    assert [float(b.diff[0]) for b in bottom] == [4, 0]


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("", [(2, 3), (2, 4)], r"bottom 1 must have the shape of bottom 0, \(2, 3\), got \(2, 4\)"),
        ("coeff: 1", [(2,), (2,)], r"coeff must be given once per bottom \(2\), got 1"),
        ("operation: PROD coeff: 1 coeff: 2", [(2,), (2,)], "coeff goes with operation SUM, not with PROD"),
        ("", [(2,)], r"takes at least 2 bottom blob\(s\), got 1"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match="^Eltwise layer 'layer': " + sentence):
        run_layer(eltwise(text), *(np.zeros(shape) for shape in shapes))
