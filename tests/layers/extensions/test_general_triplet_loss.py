"""GeneralTripletLoss, by plain loops."""

import numpy as np
import pytest

from helpers.distance_losses import case, passes, spread
from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.testing import LayerProperties, assert_close, run_layer


def triplet(text=""):
    return f"type: 'GeneralTripletLoss' general_triplet_loss_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        case(triplet("margin: 1"), num_top=2, gradient=()),
        case(triplet("hardest_only: true add_center_loss: false"), gradient=()),
    ]


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


def test_a_label_out_of_range_names_label_and_classes(engine):
    with pytest.raises(LayerError, match="label 4 is out of range: there are 4 classes, 0 to 3"):
        layer, _, top = run_layer(triplet(), np.zeros((1, 4)), [4.0], dtype=np.float32)
        layer.loss(top)


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ([(2, 3), (3,)], "bottoms 0 and 1 must agree in axis 0"),
        ([(2, 3), (2, 2)], r"bottom 1 must hold one label for each of the 2 samples, got \(2, 2\)"),
        ([(2, 3), (2,), (3,)], r"bottom 2 must hold one weight for each sample, got \(3,\)"),
    ],
)
def test_what_is_refused(shapes, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(triplet(), *(np.zeros(shape) for shape in shapes))
