"""MarginInnerProduct, and LargeMarginInnerProduct beside it, by plain loops."""

import math

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.layers.shared.margin_product import psi
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, labels, normal, run_layer

TYPES = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}
FILLER = "weight_filler { type: 'gaussian' std: 1 }"


def sphere(text):
    return f"type: 'MarginInnerProduct' margin_inner_product_param {{ {FILLER} {text} }}"


def large(text):
    return f"type: 'LargeMarginInnerProduct' largemargin_inner_product_param {{ {FILLER} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(sphere("num_output: 4 type: SINGLE"), [(6, 5), (6,)], [normal, labels(4)], gradient=[0], params=False),
        Case(sphere("num_output: 4 type: QUADRUPLE"), [(6, 5), (6,)], [normal, labels(4)], gradient=(), params=False),
    ]


@pytest.mark.parametrize(
    ("m", "values"),
    [(2, [-0.1736, -1.2340, -2.9397]), (3, [-0.8660, -2.8660, -4.8660]), (4, [-1.0603, -3.8264, -6.7660])],
)
def test_psi(m, values):
    """At 50, 110 and 170 degrees; by its closed form and by differences at many angles; it falls everywhere."""
    np.testing.assert_allclose(psi(np.cos(np.radians([50, 110, 170])), m)[0], values, atol=1e-4)
    angles = np.linspace(0.01, math.pi - 0.01, 501)
    value, slope = psi(np.cos(angles), m)
    k = np.floor(m * angles / math.pi)
    np.testing.assert_allclose(value, (-1) ** k * np.cos(m * angles) - 2 * k, atol=1e-12)
    assert (np.diff(value) < 0).all()
    turn = np.abs(m * angles / math.pi - np.round(m * angles / math.pi)) > 0.01
    numeric = (psi(np.cos(angles) + 1e-6, m)[0] - psi(np.cos(angles) - 1e-6, m)[0]) / 2e-6
    np.testing.assert_allclose(slope[turn], numeric[turn], rtol=1e-4, atol=1e-4)


def run(text, x, w, t, dy, unit):
    layer, bottom, top = build_layer(text, x, t, dtype=np.float32, num_top=2)
    layer.blobs[0].data[...] = w
    layer.forward(bottom, top)
    top[0].diff[...] = dy
    layer.backward(top, [True, False], bottom)
    return layer, bottom, top


@pytest.mark.parametrize("kind", list(TYPES))
@pytest.mark.parametrize("unit", [True, False])
def test_against_a_loop(kind, unit, engine):
    """SphereFace's gradients are no derivatives: (a, b) of each sample has length 1, and w's ignores the margin."""
    rng, m = np.random.default_rng(0), TYPES[kind]
    x, w, t = rng.standard_normal((7, 4)), rng.standard_normal((5, 4)), rng.integers(0, 5, 7)
    dy, text = rng.standard_normal((7, 5)), f"num_output: 5 type: {kind} base: 3 gamma: 0.5 power: 2 lambda_min: 0.1"
    layer, bottom, top = run((sphere if unit else large)(text), x, w, t, dy, unit)
    if unit:
        w = w / np.sqrt((w**2).sum(1, keepdims=True))
        assert_close(layer.blobs[0].data, w)
    ramp = max(3 * 1.5**-2, 0.1)
    y, dx, dw = x @ w.T, dy @ w, dy.T @ x
    for n, k in enumerate(t):
        lx, lw = np.linalg.norm(x[n]), np.linalg.norm(w[k])
        c = x[n] @ w[k] / lx / lw
        (value,), (slope,) = psi(np.array([c]), m)
        a, b = slope, (value - c * slope) / lx
        if unit:
            a, b = a / math.hypot(a, b), b / math.hypot(a, b)
        own = (ramp * w[k] + a * w[k] + b * lw * x[n]) / (1 + ramp)
        dx[n] += dy[n, k] * (own - w[k])
        if not unit:
            own = (ramp * x[n] + slope * x[n] + (value - c * slope) * lx / lw * w[k]) / (1 + ramp)
            dw[k] += dy[n, k] * (own - x[n])
        y[n, k] = (ramp * y[n, k] + lx * lw * value) / (1 + ramp)
    assert_close(top[0].data, y)
    assert_close(top[1].data, [ramp])
    assert_close(bottom[0].diff, dx)
    assert_close(layer.blobs[0].diff, dw)


def test_lambda_falls_with_each_pass_and_is_in_the_state(engine):
    text = sphere("num_output: 2 type: DOUBLE base: 10 gamma: 1 iteration: 3 lambda_min: 1.5")
    layer, bottom, top = run_layer(text, np.ones((1, 2)), [0.0], num_top=2, dtype=np.float32)
    seen = [float(top[1].data[0])]
    for _ in range(3):
        layer.forward(bottom, top)
        seen.append(float(top[1].data[0]))
    assert_close(seen, [10 / 5, 10 / 6, 1.5, 1.5])
    other, bottom, top = build_layer(text, np.ones((1, 2)), [0.0], num_top=2, dtype=np.float32)
    other.load_state({**layer.state(), "iteration": 4.0})
    other.forward(bottom, top)
    assert_close(top[1].data, [10 / 6])


def test_a_vector_of_zeros_has_the_cosine_0(engine):
    layer, bottom, top = run_layer(sphere("num_output: 2 type: QUADRUPLE"), np.zeros((1, 3)), [1.0], dtype=np.float32)
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(top[0].data, [[0, 0]], atol=1e-9)
    assert np.isfinite(bottom[0].diff).all()


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("", [(2, 3), (2,)], "num_output, the number of classes, must be at least 1"),
        ("num_output: 2", [(2, 3), (3,)], r"bottom 1 must hold one label for each of the 2 samples, got \(3,\)"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match="^MarginInnerProduct layer 'layer': " + sentence):
        run_layer(sphere(text), *(np.zeros(shape) for shape in shapes))


def test_a_label_out_of_range_is_an_error():
    with pytest.raises(LayerError, match="label 2 is out of range: there are 2 classes, 0 to 1"):
        run_layer(sphere("num_output: 2"), np.ones((1, 3)), [2.0])
