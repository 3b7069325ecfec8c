"""CtcLoss, by a sum over all paths; PyTorch's numbers are in test_warp_ctc_loss.py."""

import numpy as np
import pytest

from helpers.ctc import slow_cost, slow_gradient
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, labels, normal, run_layer


def loss(classes=4, steps=5, blank=0):
    text = f"alphabet_size: {classes} time_step: {steps} blank_label: {blank}"
    return f"type: 'CtcLoss' ctc_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    #: One sequence: the gradient is N times the derivative.
    cases = [
        Case(loss(), [(5, 1, 4), (1, 3)], [normal, labels(4)], gradient=[0]),
        Case(loss(3, 4, 2), [(5, 1, 3), (1, 2)], [normal, labels(3)], gradient=[0]),
        Case(loss(3, 1), [(1, 1, 3), (1, 1)], [normal, labels(3)], gradient=[0]),
    ]


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_against_all_paths(engine, blank, weight):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 6, 4))
    y = [[1, 2, blank], [1, 1, blank], [blank, 2, 2], [2, 1, 2], [blank] * 3, [2, 2, 2]]
    own = [[k for k in row if k != blank] for row in y]
    layer, bottom, top = run_layer(loss(4, 4, blank), x, y, dtype=np.float32)
    expected = [slow_cost(x[:, n], own[n], blank) for n in range(5)]  # the last one needs five steps: it counts 0
    np.testing.assert_allclose(top[0].data, sum(expected) / 6, rtol=1e-5)
    assert layer.loss(top) == top[0].data
    top[0].diff[...] = weight
    layer.backward(top, [True, False], bottom)
    for n in range(5):
        np.testing.assert_allclose(bottom[0].diff[:, n], weight * slow_gradient(x[:, n], own[n], blank), atol=2e-6)
    assert (bottom[0].diff[:, 5] == 0).all()


def test_steps_behind_the_last_do_not_count(engine):
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    layer, bottom, top = run_layer(loss(3, 4), x, [[1, 2], [2, 0]], dtype=np.float32)
    np.testing.assert_allclose(
        top[0].data, (slow_cost(x[:4, 0], [1, 2], 0) + slow_cost(x[:4, 1], [2], 0)) / 2, rtol=1e-5
    )
    layer.backward(top, [True, False], bottom)
    assert (bottom[0].diff[4:] == 0).all() and (bottom[0].diff[:4] != 0).all()


def test_the_gradient_is_n_times_the_derivative():
    x, y = np.random.default_rng(2).standard_normal((5, 3, 4)), [[1, 2, 0], [3, 3, 0], [2, 0, 0]]
    layer, bottom, top = run_layer(loss(), x, y)
    layer.backward(top, [True, False], bottom)
    for at in [(0, 0, 1), (2, 1, 3), (4, 2, 0), (3, 0, 2)]:
        values = []
        for step in (1e-5, -1e-5):
            moved = x.copy()
            moved[at] += step
            values.append(float(run_layer(loss(), moved, y)[2][0].data))
        np.testing.assert_allclose(bottom[0].diff[at], 3 * (values[0] - values[1]) / 2e-5, rtol=1e-6)


def test_scores_of_any_size(engine):
    """Probabilities far below the smallest float32."""
    x = np.zeros((5, 1, 3))
    x[:, 0, 0] = 300
    layer, bottom, top = run_layer(loss(3), x, [[1, 2]], dtype=np.float32)
    np.testing.assert_allclose(top[0].data, 600 - np.log(10), rtol=1e-6)
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff.sum(2), 0, atol=1e-4)
    np.testing.assert_allclose(bottom[0].diff[:, 0, 1].sum(), -1, rtol=1e-4)


def test_labels_out_of_range(engine):
    layer, bottom, top = build_layer(loss(), np.zeros((5, 2, 4)), [[1, 2], [3, 4]], dtype=np.float32)
    with pytest.raises(LayerError, match="^CtcLoss layer 'layer': label 4 is out of range: there are 4 classes"):
        layer.forward(bottom, top)
        layer.loss(top)


def test_a_negative_label_ends_the_labels(engine):
    x = np.random.default_rng(0).standard_normal((5, 1, 4))
    _, _, top = run_layer(loss(), x, [[3, -1, 2]], dtype=np.float32)
    np.testing.assert_allclose(top[0].data, slow_cost(x[:, 0], [3], 0), rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type: 'CtcLoss'", "alphabet_size and time_step must be given"),
        (loss(5), "alphabet_size must be 4, the scores of a step, got 5"),
        (loss(steps=6), "time_step must be at most 5, the steps of bottom 0, got 6"),
        (loss(blank=4), "the blank must be one of the 4 classes, got 4"),
    ],
)
def test_errors(text, message):
    with pytest.raises(LayerError, match=f"^CtcLoss layer 'layer': {message}"):
        build_layer(text, np.zeros((5, 2, 4)), np.zeros((2, 3)))


def test_shapes_are_checked():
    with pytest.raises(LayerError, match=r"bottom 0 must be scores \(T, N, K\), got \(5, 2\)"):
        build_layer(loss(), np.zeros((5, 2)), np.zeros((2, 3)))
    with pytest.raises(LayerError, match=r"bottom 1 must be labels \(N, L\) with N = 2, got \(3, 2\)"):
        build_layer(loss(), np.zeros((5, 2, 4)), np.zeros((3, 2)))
    layer, bottom, top = run_layer(loss(), np.zeros((5, 2, 4)), np.ones((2, 3)))
    with pytest.raises(LayerError, match=r"there is no gradient with respect to the labels \(bottom 1\)"):
        layer.backward(top, [True, True], bottom)
