"""Exp."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer, top_of


def exp(text=""):
    return f"type: 'Exp' exp_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(exp(), [(2, 3, 4)]),
        Case(exp("base: 3 scale: -0.5 shift: 1.5"), [(5, 2)]),
    ]


def test_values():
    x = np.array([-2.0, 0.0, 1.5])
    np.testing.assert_allclose(top_of(exp("scale: 2 shift: 0.5"), x), np.exp(0.5 + 2 * x))
    np.testing.assert_allclose(top_of(exp("base: 2 shift: -1"), x), 2 ** (x - 1))


def test_a_base_below_zero_is_refused():
    with pytest.raises(LayerError, match="^Exp layer 'layer': base must be above 0, or -1 for e, got -2"):
        run_layer(exp("base: -2"), [1.0])
