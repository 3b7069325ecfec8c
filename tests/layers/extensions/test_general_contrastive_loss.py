"""GeneralContrastiveLoss, by plain loops."""

import math

import numpy as np
import pytest

from helpers.distance_losses import case, passes, spread
from minicaffe.errors import LayerError
from minicaffe.testing import LayerProperties, assert_close, build_layer, run_layer


def contrastive(text=""):
    return f"type: 'GeneralContrastiveLoss' general_contrastive_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        case(contrastive()),
        case(contrastive("exp_negative_weight: true negative_weight: 2 positive_weight: 0.5")),
        case(contrastive("positive_margin: 0.3 negative_margin: 2 max_negative_only: true"), num_top=2, gradient=()),
        case(contrastive("add_intra_mae: true"), num_top=2, gradient=()),
    ]


@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_contrastive_against_a_loop(exponential, nearest, first, engine):
    rng = np.random.default_rng(0)
    d, t = spread(rng, (7, 4)), rng.integers(0, 4, 7)
    switches = {"exp_negative_weight": exponential, "max_negative_only": nearest, "positive_first": first}
    text = " ".join(f"{name}: {str(value).lower()}" for name, value in switches.items())
    text += (
        " positive_margin: 0.2 negative_margin: 1.8 positive_weight: 3 negative_weight: 2 positive_outlier_thresh: 2"
    )
    loss, statistics, slopes = passes(contrastive(text), d, t)
    expected, total, positive, negative = np.zeros_like(d), 0.0, 0.0, 0.0
    for n, k in enumerate(t):
        clamped = min(max(d[n, k] - 0.2, 0), 2)
        beyond = first and d[n, k] > 1
        total, positive = total + 3 * clamped / 7, positive + clamped / 7
        expected[n, k] = 3 / 7 if beyond or 0.2 < d[n, k] < 2 else 0
        within = [j for j in range(4) if j != k and d[n, j] < 1.8]
        negative += sum(1.8 - d[n, j] for j in within) / 7 / 3
        used = [] if beyond else [min(within, key=lambda j: d[n, j])] if nearest and within else within
        for j in used:
            total += 2 * (math.exp(-d[n, j]) if exponential else 1.8 - d[n, j]) / 7
            expected[n, j] = -2 * (math.exp(-d[n, j]) if exponential else 1) / 7
    assert_close(loss, total)
    assert_close(slopes, expected)
    assert_close(statistics, [positive, negative])


@pytest.mark.parametrize(("limit", "divisor"), [(0.5, 6), (4, 1)])
def test_the_slopes_of_others_may_be_limited(limit, divisor, engine):
    """All three others of each sample push with 1, so the mean sum is 3: 6 times the limit 0.5, below the limit 4."""
    d, t = np.full((2, 4), 0.5), [0.0, 3.0]
    _, _, slopes = passes(contrastive(f"normalize_negative: {limit}"), d, t)
    push = -0.5 / divisor
    assert_close(slopes, [[0.5, push, push, push], [push, push, push, 0.5]])


def test_a_running_mean_is_added_to_the_margin(engine):
    text = contrastive("add_intra_mae: true max_negative_margin: 0.015") + " loss_weight: 1 loss_weight: 0"
    layer, bottom, top = build_layer(text, [[0.8, 1.005]], [0.0], num_top=2, dtype=np.float32)
    seen = []
    for _ in range(3):
        layer.forward(bottom, top)
        layer.backward(top, [True, False], bottom)
        seen.append((float(top[1].data[2]), float(bottom[0].diff[0, 1])))
    assert_close(seen, [(0.008, 0), (0.015, -1), (0.015, -1)])
    other, *_ = build_layer(text, [[0.8, 1.005]], [0.0], num_top=2)
    other.load_state(layer.state())
    assert_close(other.mean.data, [0.015])


def test_other_distances_may_be_measured(engine):
    """Those of bottom 2 count, and bottom 0 gets their gradient."""
    d, t = spread(np.random.default_rng(0), (5, 4)), [0.0, 1.0, 2.0, 3.0, 0.0]
    assert_close(passes(contrastive(), np.zeros((5, 4)), t, d)[2], passes(contrastive(), d, t)[2])


def test_a_label_out_of_range_names_label_and_classes(engine):
    with pytest.raises(LayerError, match="label 4 is out of range: there are 4 classes, 0 to 3"):
        layer, _, top = run_layer(contrastive(), np.zeros((1, 4)), [4.0], dtype=np.float32)
        layer.loss(top)


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        (contrastive(), [(2, 3), (2,), (2,)], r"bottom 2 must have the shape of bottom 0, \(2, 3\), got \(2,\)"),
        (contrastive("max_positive_only: true"), [(2, 3), (2,)], "max_positive_only is not implemented"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(text, *(np.zeros(shape) for shape in shapes))
