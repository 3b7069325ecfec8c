"""Log."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, positive, run_layer, top_of


def log(text=""):
    return f"type: 'Log' log_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(log(), [(2, 3, 4)], positive),
        Case(log("base: 3 scale: 0.5 shift: 1.5"), [(5, 2)], positive),
    ]


def test_values():
    x = np.array([0.5, 1.0, 4.0])
    np.testing.assert_allclose(top_of(log("scale: 2 shift: 0.5"), x), np.log(0.5 + 2 * x))
    np.testing.assert_allclose(top_of(log("base: 2"), x), [-1, 0, 2], atol=1e-15)
    assert top_of(log(), [0.0])[0] == -np.inf


def test_base_one_is_refused():
    with pytest.raises(LayerError, match="^Log layer 'layer': base must not be 1"):
        run_layer(log("base: 1"), [1.0])
