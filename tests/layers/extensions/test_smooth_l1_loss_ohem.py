"""SmoothL1LossOHEM, and SmoothL1Loss with two tops."""

import numpy as np
import pytest

from minicaffe.testing import Case, LayerProperties, run_layer

TYPES = ("SmoothL1LossOHEM", "SmoothL1Loss")


def loss(text="", kind="SmoothL1LossOHEM"):
    return f"type: '{kind}' loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(loss(), [(4, 3), (4, 3)]),
        Case(loss("normalization: PRE_FIXED pre_fixed_normalizer: 6.5"), [(4, 3), (4, 3), (4, 3)], gradient=[0, 1]),
        Case(loss("normalization: NONE"), [(2, 3, 2, 2)] * 3, gradient=[0, 1]),
        Case(loss() + "smooth_l1_loss_param { sigma: 2 }", [(2, 3, 2)] * 3, gradient=[0, 1]),
        Case(loss("normalization: FULL", "SmoothL1Loss"), [(2, 3, 2, 2)] * 4, gradient=[0, 1]),
    ]


class TestPropertiesOfTwoTops(LayerProperties):
    """The gradient is that of the first top alone."""

    cases = [Case(loss("", kind), [(2, 3, 2, 2)] * 3, gradient=(), num_top=2) for kind in TYPES]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", 10),
        ("normalization: FULL", 10),
        ("normalization: VALID", 10),
        ("normalization: BATCH_SIZE", 5),
        ("normalize: false", 5),
        ("normalization: NONE", 1),
        ("normalization: PRE_FIXED", 1),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 128", 128),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 0.25", 1),
    ],
)
def test_values_against_a_loop(engine, kind, text, divisor):
    x, t, w = 1.5 * np.random.default_rng(0).standard_normal((3, 5, 3, 2, 1)).astype(np.float32)
    each, slope = np.zeros((5, 1, 2, 1)), np.zeros(x.shape)
    for n, c, h, _ in np.ndindex(x.shape):
        d = w[n, c, h, 0] * (x[n, c, h, 0] - t[n, c, h, 0])
        each[n, 0, h, 0] += 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5
        slope[n, c, h, 0] = w[n, c, h, 0] * (d if abs(d) < 1 else np.sign(d)) / divisor
    layer, bottom, top = run_layer(loss(text, kind), x, t, w, num_top=2, dtype=np.float32)
    np.testing.assert_allclose(top[0].data, each.sum() / divisor, rtol=1e-5)
    np.testing.assert_allclose(top[1].data, each, rtol=1e-5)
    top[0].diff[...], top[1].diff[...] = 1, 100
    layer.backward(top, [True, True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(bottom[1].diff, -bottom[0].diff)


def test_the_weight_is_a_factor_of_the_derivative(engine):
    """R-FCN's fork has 0.6 here: it leaves out the factor w, which makes no difference for weights of 0 and 1."""
    layer, bottom, top = run_layer(loss(), *np.array([[[0.3]], [[0.0]], [[2.0]]]), num_top=2, dtype=np.float32)
    np.testing.assert_allclose([top[0].data, top[1].data.item()], 0.18, rtol=1e-6)
    top[0].diff[...] = 1
    layer.backward(top, [True, False, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, 1.2, rtol=1e-6)


def test_the_losses_of_positions_have_four_axes_at_least():
    for shape, expected in (((5, 3), (5, 1, 1, 1)), ((5, 3, 2), (5, 1, 2, 1)), ((5, 3, 2, 4, 6), (5, 1, 2, 4, 6))):
        assert run_layer(loss(), *np.zeros((2, *shape)), num_top=2)[2][1].shape == expected


def test_one_top_of_smooth_l1_loss_is_divided_by_the_batch():
    x, t = np.full((2, 1, 3, 4), 2.5), np.zeros((2, 1, 3, 4))
    assert run_layer(loss("", "SmoothL1Loss"), x, t)[2][0].data == 2.0 * 24 / 2
    assert run_layer(loss(), x, t)[2][0].data == 2.0
