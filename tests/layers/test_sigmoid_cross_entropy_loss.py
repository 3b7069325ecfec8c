"""SigmoidCrossEntropyLoss."""

import numpy as np
import pytest

from helpers.references import sigmoid
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer


def loss(text=""):
    return f"type: 'SigmoidCrossEntropyLoss' loss_param {{ {text} }}"


def uniform(rng, shape):
    return rng.random(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(loss(), [(4, 3), (4, 3)], [normal, uniform], gradient=[0]),
        Case(loss("ignore_label: 1"), [(4, 3, 2), (4, 6)], [normal, labels(2)], gradient=[0]),
        Case(loss("normalization: VALID ignore_label: 0"), [(4, 3), (4, 3)], [normal, labels(2)], gradient=[0]),
        Case(loss("normalization: FULL"), [(4, 3), (4, 3)], [normal, uniform], gradient=[0]),
    ]


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", 3),
        ("normalization: VALID", 10),
        ("normalization: FULL", 12),
        ("normalization: NONE", 1),
        ("normalize: true", 10),
    ],
)
def test_values_against_a_loop(text, divisor):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((3, 4)), rng.integers(0, 2, (3, 4)).astype(float)
    t[0, 1] = t[2, 2] = -1
    total = 0.0
    for n, k in np.ndindex(3, 4):
        s = sigmoid(x[n, k])
        if t[n, k] != -1:
            total -= t[n, k] * np.log(s) + (1 - t[n, k]) * np.log(1 - s)
    _, _, top = run_layer(loss("ignore_label: -1 " + text), x, t)
    np.testing.assert_allclose(top[0].data, total / divisor)


def test_large_scores_do_not_overflow(engine):
    _, _, top = run_layer(loss(), [[500.0, -500.0]], [[0.0, 0.0]], dtype=np.float32)
    assert top[0].data == 500


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(LayerError, match=r"bottoms must hold equally many numbers, got \(2, 3\) and \(2,\)"):
        run_layer(loss(), np.zeros((2, 3)), np.zeros(2))
