"""GeneralTripletLoss and GeneralContrastiveLoss, by plain loops."""

import math

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, labels, run_layer


def triplet(text=""):
    return f"type: 'GeneralTripletLoss' general_triplet_loss_param {{ {text} }}"


def contrastive(text=""):
    return f"type: 'GeneralContrastiveLoss' general_contrastive_loss_param {{ {text} }}"


def spread(rng, shape):
    """Distances from 0 to 3, all different."""
    return rng.permutation(np.linspace(0.01, 3, math.prod(shape))).reshape(shape)


def case(text, **options):
    return Case(text, [(6, 5), (6,)], [spread, labels(5)], **{"gradient": [0], **options})


class TestProperties(LayerProperties):
    cases = [
        case(contrastive()),
        case(contrastive("exp_negative_weight: true negative_weight: 2 positive_weight: 0.5")),
        case(contrastive("positive_margin: 0.3 negative_margin: 2 max_negative_only: true"), num_top=2, gradient=()),
        case(contrastive("add_intra_mae: true"), num_top=2, gradient=()),
        case(triplet("margin: 1"), num_top=2, gradient=()),
        case(triplet("hardest_only: true add_center_loss: false"), gradient=()),
    ]


def passes(text, d, t, *more, tops=2):
    """The losses, their statistics and the gradient of distances d (N, K), labels t."""
    layer, bottom, top = run_layer(text + " loss_weight: 2 loss_weight: 0", d, t, *more, num_top=tops, dtype=np.float32)
    bottom[0].diff[...] = 99
    layer.backward(top, [True, *[False] * (len(bottom) - 1)], bottom)
    return float(top[0].data), top[1].data.copy(), bottom[0].diff.copy() / 2


@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_triplets_against_a_loop(hardest, center, first, engine):
    rng = np.random.default_rng(0)
    d, t = spread(rng, (7, 4)), rng.integers(0, 4, 7)
    switches = {"hardest_only": hardest, "add_center_loss": center, "positive_first": first}
    text = " ".join(f"{name}: {str(value).lower()}" for name, value in switches.items())
    text += " margin: 0.5 positive_weight: 3 negative_weight: 2 positive_upper_bound: 1.5"
    loss, statistics, slopes = passes(triplet(text), d, t)
    expected, total = np.zeros_like(d), 0.0
    for n, k in enumerate(t):
        beyond = first and d[n, k] > 1.5
        terms = {j: d[n, k] + 0.5 - d[n, j] for j in range(4) if j != k and d[n, k] + 0.5 > d[n, j] and not beyond}
        if hardest and terms:
            terms = dict([max(terms.items(), key=lambda item: item[1])])
        for j, term in terms.items():
            expected[n, j], total = -2 / 7, total + 2 * term / 7
        if center or terms or beyond:
            expected[n, k] = 3 / 7
    others = [d[n, j] for n in range(7) for j in range(4) if j != t[n]]
    assert_close(loss, total)
    assert_close(slopes, expected)
    assert_close(statistics, [np.mean([d[n, k] for n, k in enumerate(t)]), np.mean(others)])


def test_the_weights_of_samples_multiply_the_gradient_alone(engine):
    d, t, w = spread(np.random.default_rng(0), (3, 4)), [0.0, 1.0, 2.0], [0.0, 1.0, 5.0]
    plain, weighted = passes(triplet("margin: 3"), d, t), passes(triplet("margin: 3"), d, t, w)
    assert plain[0] == weighted[0]
    assert_close(weighted[2], plain[2] * np.reshape(w, (3, 1)))


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


def test_both_tops_count_in_the_loss_of_a_net(engine):
    """As in NormFace's nets: the mean distances are shown with the loss, and have no gradient."""
    text = """layer { name: "in" type: "Input" top: "d" top: "t"
                input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
              layer { name: "loss" type: "GeneralTripletLoss" bottom: "d" bottom: "t" top: "l" top: "m"
                loss_weight: 1 loss_weight: 1 }"""
    net = net_from_text("force_backward: true\n" + text, 0)
    net.blobs["d"].data[...] = [[0.5, 1, 2], [3, 1, 2]]
    net.blobs["t"].data[...] = [0, 1]
    net.forward()
    net.backward()
    assert_close(net.blobs["l"].data, 0.0)
    assert_close(net.blobs["m"].data, [0.75, 2])
    assert_close(net.blobs["d"].diff, [[0.5, 0, 0], [0, 0.5, 0]])


@pytest.mark.parametrize("text", [triplet(), contrastive()])
def test_a_label_out_of_range_names_label_and_classes(text, engine):
    with pytest.raises(LayerError, match="label 4 is out of range: there are 4 classes, 0 to 3"):
        layer, _, top = run_layer(text, np.zeros((1, 4)), [4.0], dtype=np.float32)
        layer.loss(top)


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        (triplet(), [(2, 3), (3,)], "bottoms 0 and 1 must agree in axis 0"),
        (triplet(), [(2, 3), (2, 2)], r"bottom 1 must hold one label for each of the 2 samples, got \(2, 2\)"),
        (triplet(), [(2, 3), (2,), (3,)], r"bottom 2 must hold one weight for each sample, got \(3,\)"),
        (contrastive(), [(2, 3), (2,), (2,)], r"bottom 2 must have the shape of bottom 0, \(2, 3\), got \(2,\)"),
        (contrastive("max_positive_only: true"), [(2, 3), (2,)], "max_positive_only is not implemented"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(text, *(np.zeros(shape) for shape in shapes))
