"""SoftmaxWithLoss."""

import numpy as np
import pytest

from helpers.references import softmax
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, computing_with, labels, normal, run_layer, top_of


def loss(text=""):
    return f"type: 'SoftmaxWithLoss' loss_param {{ {text} }}"


def case(text, scores, label_shape):
    return Case(loss(text), [scores, label_shape], [normal, labels(scores[1])], gradient=[0])


WEIGHTED = "weight_by_label_freqs: true class_weighting: 0.5 class_weighting: 2 class_weighting: 3"


class TestProperties(LayerProperties):
    cases = [
        case("", (4, 3), (4,)),
        case("", (4, 3), (4, 1)),
        case("ignore_label: 1", (6, 3), (6,)),
        case("normalization: FULL ignore_label: 0", (2, 3, 2, 2), (2, 2, 2)),
        case("normalization: BATCH_SIZE", (2, 3, 2, 2), (2, 1, 2, 2)),
        case("normalization: NONE", (2, 3, 2), (2, 2)),
        case("normalize: false", (2, 3, 2), (2, 2)),
        case(f"ignore_label: 2 {WEIGHTED}", (5, 3, 2), (5, 2)),
        Case(
            "type: 'SoftmaxWithLoss' softmax_param { axis: -1 }", [(2, 2, 3), (2, 2)], [normal, labels(3)], gradient=[0]
        ),
    ]


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("ignore_label: 9", 10),
        ("ignore_label: 9 normalization: FULL", 12),
        ("ignore_label: 9 normalization: BATCH_SIZE", 2),
        ("ignore_label: 9 normalization: NONE", 1),
        ("ignore_label: 9 normalize: true", 10),
        ("ignore_label: 9 normalize: false", 2),
    ],
)
def test_values_against_a_loop(text, divisor):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((2, 4, 6)), rng.integers(0, 4, (2, 6)).astype(float)
    t[0, 1] = t[1, 4] = 9
    total = 0.0
    for n, place in np.ndindex(2, 6):
        if t[n, place] != 9:
            total -= np.log(softmax(x)[n, int(t[n, place]), place])
    layer, bottom, top = run_layer(loss(text), x, t)
    np.testing.assert_allclose(top[0].data, total / divisor)
    layer.backward(top, [True, False], bottom)
    assert (bottom[0].diff[0, :, 1] == 0).all()


def test_the_second_top_is_the_softmax():
    x = np.random.default_rng(0).standard_normal((3, 4))
    _, _, top = run_layer(loss(), x, [0.0, 1.0, 2.0], num_top=2)
    np.testing.assert_allclose(top[1].data, softmax(x))


def test_a_sample_costs_at_most_87(engine):
    _, _, top = run_layer(loss(), [[1000.0, 0.0]], [1.0], dtype=np.float32)
    assert abs(float(top[0].data) - 87.33654) < 1e-4


@pytest.mark.parametrize("label", [3, -1, 255, float("nan")])
def test_a_label_out_of_range_names_label_and_classes(label, engine):
    sentence = r"^SoftmaxWithLoss layer 'layer': label .* is out of range: there are 3 classes, 0 to 2"
    with pytest.raises(LayerError, match=sentence):
        layer, _, top = run_layer(loss(), np.zeros((2, 3)), [1.0, label], dtype=np.float32)
        layer.loss(top)  # which raises the error on the GPU


def test_all_ignored_costs_nothing(engine):
    layer, bottom, top = run_layer(loss("ignore_label: 7"), np.ones((2, 3)), [7.0, 7.0], dtype=np.float32)
    assert top[0].data == 0
    layer.backward(top, [True, False], bottom)
    assert (bottom[0].diff == 0).all()


@pytest.mark.parametrize(
    ("scores", "label_shape", "sentence"),
    [
        ((4, 3), (5,), r"bottoms 0 and 1 must agree in axis 0, got \(4, 3\) and \(5,\)"),
        ((4, 3, 2), (4,), r"bottom 1 must hold one label for each position outside axis 1 .* 8 in all, got \(4,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(scores, label_shape, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(loss(), np.zeros(scores), np.zeros(label_shape))


def test_the_label_gets_no_gradient():
    layer, bottom, top = run_layer(loss(), np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(LayerError, match="no gradient with respect to the label"):
        layer.backward(top, [True, True], bottom)


def test_classes_may_be_weighted(engine):
    x, t = np.random.default_rng(0).standard_normal((3, 3)), [0.0, 2.0, 1.0]
    single = [float(top_of(loss(), x[i : i + 1], t[i : i + 1], dtype=np.float32)) for i in range(3)]
    weighted = float(top_of(loss(WEIGHTED), x, t, dtype=np.float32))
    np.testing.assert_allclose(weighted, (0.5 * single[0] + 3 * single[1] + 2 * single[2]) / 3, rtol=1e-6)


def test_each_class_needs_a_weight():
    with pytest.raises(LayerError, match="class_weighting must be given 4 times, got 3"):
        run_layer(loss(WEIGHTED), np.zeros((2, 4)), [0.0, 1.0])


def test_nan_is_not_hidden(engine):
    with np.errstate(invalid="ignore"):
        _, _, top = run_layer(loss(), [[np.nan, 0.0]], [0.0], dtype=np.float32)
    assert np.isnan(top[0].data)


@pytest.mark.gpu
@pytest.mark.parametrize(("scores", "label_shape"), [((70, 3), 70), ((3, 1500), 3), ((2, 5, 30, 40), (2, 30, 40))])
@pytest.mark.parametrize("text", ["ignore_label: 1", "normalization: FULL"])
def test_one_launch_in_each_direction(gpu_mode, launched, scores, label_shape, text):
    """Rows of warps, rows of blocks, and columns."""
    rng = np.random.default_rng(0)
    x, given = rng.standard_normal(scores).astype(np.float32), rng.integers(0, 3, label_shape)
    results = []
    for gpu in (True, False):
        with computing_with(gpu=gpu):
            layer, bottom, top = run_layer(loss(text), x, given, dtype=np.float32)
            layer.backward(top, [True, False], bottom)
            results.append((top[0].data.copy(), bottom[0].diff.copy()))
    assert launched == ["softmax_loss.forward", "softmax_loss.gradient"]
    for mine, other in zip(*results):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-7)


def test_another_normalize_type_is_refused():
    with pytest.raises(LayerError, match='normalize_type .NormFace. must be "Softmax", got "L2"'):
        run_layer("type: 'SoftmaxWithLoss' softmax_param { normalize_type: 'L2' }", np.zeros((1, 2)), [0.0])
