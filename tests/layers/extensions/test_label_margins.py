"""LabelSpecificAdd, CombinedMargin and CosinAddm."""

import math

import numpy as np
import pytest

from helpers.nets import solver_from_text
from minicaffe.errors import LayerError
from minicaffe.proto import TEST
from minicaffe.testing import CUDA, Case, LayerProperties, assert_close, build_layer, labels, run_layer

ADD = "type: 'LabelSpecificAdd' label_specific_add_param {{ {} }}"
COMBINED = "type: 'CombinedMargin' combined_margin_param {{ {} }}"
ARC = "type: 'CosinAddm' cosin_add_m_param {{ {} }}"


def cosines(rng, shape):
    """Cosines away from -1 and 1, from thresholds of these tests' margins, and from each other."""
    return rng.permutation(np.linspace(-0.93, 0.95, math.prod(shape))).reshape(shape)


def case(text, shape=(6, 5), **options):
    return Case(text, [shape, shape[:1]], [cosines, labels(5)], gradient=[0], **options)


class TestProperties(LayerProperties):
    cases = [
        case(COMBINED.format("")),
        case(COMBINED.format("m1: 1 m2: 0.5 m3: 0"), (4, 5, 1, 1)),
        case(ARC.format("")),
        case(ARC.format("m: 1.2"), (4, 5, 1, 1)),
        case(ADD.format("bias: -0.35"), num_top=2),
        case(ADD.format("bias: -0.35"), phase=TEST),
    ]


def changed(text, x, t, **options):
    """The top, and the gradient for a top diff of ones."""
    layer, bottom, top = run_layer(text, x, t, dtype=np.float32, **options)
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    return top[0].data.copy(), bottom[0].diff.copy()


def test_label_specific_add_subtracts_above_its_threshold(engine):
    x = np.array([[0.3, 0.5], [0.9, 0.2], [0.7, 0.7]])
    y, dx = changed(ADD.format("bias: -0.35"), x, [0.0, 0.0, -1.0])
    assert_close(y, [[0.3, 0.5], [0.55, 0.2], [0.7, 0.7]])
    assert_close(dx, np.ones((3, 2)))


@pytest.mark.gpu
def test_a_captured_step_may_have_the_bias_as_a_top(cuda_device):
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
        layer {{ name: "t" type: "Input" top: "t" input_param {{ shape {{ dim: 2 }} }} }}
        layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param {{ num_output: 4 }} }}
        layer {{ name: "y" bottom: "ip" bottom: "t" top: "y" top: "bias" {ADD.format("bias: 0.35")} }}
        layer {{ name: "sum" type: "Reduction" bottom: "bias" top: "sum" loss_weight: 1 }}
        layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "t" top: "loss" }}"""
    with CUDA.chosen():
        solver = solver_from_text("base_lr: 0.1 lr_policy: 'fixed'", text)
        solver.net.blobs["x"].data[...] = 1
        solver.step(4)
        assert solver.engine_step.captured
        assert_close(solver.net.blobs["bias"].data, [0.35])
        assert_close(solver.net.blobs["sum"].data, 0.35)


def test_label_specific_add_adds_nothing_in_test(engine):
    """Not even with transform_test, and labels of identities that the net does not have are not read."""
    x = np.array([[0.3, 0.9]])
    y, _ = changed(ADD.format("bias: -0.35 transform_test: true"), x, [7.0], phase=TEST)
    assert_close(y, x)


def test_a_bias_with_a_base_changes_with_each_pass(engine):
    text = ADD.format("bias_base: -0.1 bias_gamma: -0.1 bias_min: -0.35 bias_max: 0 iteration: 1")
    layer, bottom, top = build_layer(text, [[1.0, 0]], [0.0], num_top=2, dtype=np.float32)
    seen = []
    for _ in range(3):
        layer.forward(bottom, top)
        seen.append((float(top[0].data[0, 0]), float(top[1].data[0])))
    assert_close(seen, [(0.8, -0.2), (0.7, -0.3), (0.65, -0.35)])
    other, *_ = build_layer(text, [[1.0, 0]], [0.0], num_top=2)
    other.load_state(layer.state())
    assert other.iteration == 4


def test_a_base_without_bias_max_gives_at_most_0():
    layer, bottom, top = run_layer(ADD.format("bias_base: 5"), [[1.0, 0]], [0.0], num_top=2)
    assert top[1].data.tolist() == [0]


@pytest.mark.parametrize(("m1", "m2", "m3"), [(4, 0.5, 0.35), (1, 0, 0.35), (1, 0.5, 0), (1.35, 0, 0)])
def test_combined_margin(m1, m2, m3, engine):
    x, t = cosines(np.random.default_rng(0), (6, 4)), [0.0, 1.0, 2.0, 3.0, -1.0, 0.0]
    y, dx = changed(COMBINED.format(f"m1: {m1} m2: {m2} m3: {m3}"), x, t)
    expected, slopes = x.copy(), np.ones_like(x)
    for n, k in enumerate(map(int, t)):
        if k >= 0:
            angle = math.acos(x[n, k])
            expected[n, k] = math.cos(m1 * angle + m2) - m3
            slopes[n, k] = m1 * math.sin(m1 * angle + m2) / math.sin(angle)
    assert_close(y, expected)
    assert_close(dx, slopes)


def test_cosin_add_m(engine):
    x, t = cosines(np.random.default_rng(0), (40, 2)), np.arange(40.0) % 2
    y, dx = changed(ARC.format("m: 0.5"), x, t)
    expected, slopes, beyond = x.copy(), np.ones_like(x), 0
    for n, k in enumerate(map(int, t)):
        angle = math.acos(x[n, k])
        if angle + 0.5 < math.pi:
            expected[n, k] = math.cos(angle + 0.5)
            slopes[n, k] = math.sin(angle + 0.5) / math.sin(angle)
        else:
            beyond += 1
            expected[n, k] -= 0.5 * math.sin(math.pi - 0.5)
    assert 0 < beyond < 40
    assert_close(y, expected)
    assert_close(dx, slopes)


@pytest.mark.parametrize("text", [COMBINED.format(""), ARC.format("")])
def test_cosines_of_1_and_beyond_give_finite_gradients(text, engine):
    y, dx = changed(text, [[1.0, 0], [1.00001, 0], [-1.0, 0], [-1.00001, 0]], np.zeros(4))
    assert np.isfinite(y).all() and np.isfinite(dx).all()


def test_a_label_above_the_classes_is_an_error():
    with pytest.raises(LayerError, match="^CosinAddm layer 'layer': label 2 is out of range: there are 2 classes"):
        run_layer(ARC.format(""), np.zeros((1, 2)), [2.0])


def test_there_must_be_a_label_for_each_sample():
    with pytest.raises(LayerError, match=r"bottom 1 must hold one label for each sample of bottom 0 \(2, 3\), got"):
        run_layer(ARC.format(""), np.zeros((2, 3)), np.zeros(3))
