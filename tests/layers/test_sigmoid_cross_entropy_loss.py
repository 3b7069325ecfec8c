"""SigmoidCrossEntropyLoss."""

import numpy as np
import pytest

from helpers.references import sigmoid
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, labels, normal, run_layer


def loss(text=""):
    return f"type: 'SigmoidCrossEntropyLoss' loss_param {{ {text} }}"


WEIGHTED = "type: 'SigmoidCrossEntropyLoss'"
BALANCED = "class_balanced: true"


def uniform(rng, shape):
    return rng.random(shape)


class TestProperties(LayerProperties):
    cases = [
        Case(loss(), [(4, 3), (4, 3)], [normal, uniform], gradient=[0]),
        Case(loss("ignore_label: 1"), [(4, 3, 2), (4, 6)], [normal, labels(2)], gradient=[0]),
        Case(loss("normalization: VALID ignore_label: 0"), [(4, 3), (4, 3)], [normal, labels(2)], gradient=[0]),
        Case(loss("normalization: FULL"), [(4, 3), (4, 3)], [normal, uniform], gradient=[0]),
        Case(loss(BALANCED), [(3, 2, 5), (3, 10)], [normal, labels(3)], gradient=[0]),
        Case(
            loss(f"{BALANCED} negative_weight: 1.1 normalization: VALID"),
            [(4, 3)] * 2,
            [normal, labels(3)],
            gradient=[0],
        ),
        Case(WEIGHTED, [(4, 3), (4, 3), (4, 3)], [normal, uniform, labels(2)], gradient=[0]),
        Case(WEIGHTED, [(2, 1, 2), (2, 2), (2, 2, 1)], [normal, uniform, uniform], gradient=[0]),
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


@pytest.mark.parametrize(("text", "factor", "divisor"), [
    ("", 1, 3), ("negative_weight: 1.1", 1.1, 3), ("normalization: VALID", 1, 10),
])  # fmt: skip
def test_balanced_classes_against_a_loop(text, factor, divisor, engine):
    """A sample with both classes, one with one of them, and targets that are neither 0 nor 1."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 4))
    t = np.array([[0, 1, 0, 0.5], [1, 1, 1, 1], [0, 1, 2, 1]])
    total, gradient = 0.0, np.zeros_like(x)
    for n, k in np.ndindex(3, 4):
        s = sigmoid(x[n, k])
        zeros, ones = ((t[n] == value).sum() for value in (0, 1))
        weight = {1: zeros, 0: ones * factor}.get(t[n, k], 0) / (zeros + ones)
        total -= weight * np.log(s if t[n, k] == 1 else 1 - s)
        gradient[n, k] = weight * (s - t[n, k]) / divisor
    layer, bottom, top = run_layer(loss(f"{BALANCED} {text}"), x, t)
    np.testing.assert_allclose(top[0].data, total / divisor)
    top[0].diff[...] = 2
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, 2 * gradient, atol=1e-12)


def test_balanced_classes_and_a_label_to_ignore():
    with pytest.raises(LayerError, match="ignore_label must be absent with class_balanced"):
        run_layer(loss(f"{BALANCED} ignore_label: 255"), [[1.0]], [[1.0]])


def test_large_scores_do_not_overflow(engine):
    _, _, top = run_layer(loss(), [[500.0, -500.0]], [[0.0, 0.0]], dtype=np.float32)
    assert top[0].data == 500


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(LayerError, match=r"bottoms must hold equally many numbers, got \(2, 3\) and \(2,\)"):
        run_layer(loss(), np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize("total", [0.1, 3, 0, -1])
def test_weights_for_each_number(engine, total):
    """MNC's third bottom; without a weight there is no loss."""
    rng = np.random.default_rng(0)
    x, t, w = rng.standard_normal((3, 4)), rng.integers(0, 2, (3, 4)).astype(float), rng.random((3, 4))
    w[0, 0] = 0
    w *= total / w.sum()
    layer, bottom, top = run_layer(WEIGHTED + " loss_weight: 2", x, t, w, dtype=np.float32)
    s = sigmoid(x)
    expected = -(w * np.where(t == 1, np.log(s), np.log(1 - s))).sum() / total if total > 0 else 0
    np.testing.assert_allclose(top[0].data, expected, rtol=1e-4)
    layer.backward(top, [True, False, False], bottom)
    slope = 2 * w * (s - t) / total if total > 0 else 0 * w
    np.testing.assert_allclose(bottom[0].diff, slope, rtol=1e-4, atol=1e-5)


def test_weights_get_no_gradient_and_have_the_size_of_the_scores():
    layer, bottom, top = run_layer(WEIGHTED, *[np.ones((2, 3))] * 3)
    with pytest.raises(LayerError, match=r"there is no gradient with respect to the weight \(bottom 2\)"):
        layer.backward(top, [True, False, True], bottom)
    with pytest.raises(LayerError, match=r"equally many numbers, got \(2, 3\) and \(2, 3\) and \(2, 1\)"):
        run_layer(WEIGHTED, np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 1)))
