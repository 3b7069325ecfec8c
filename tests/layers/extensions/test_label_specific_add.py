"""LabelSpecificAdd: a bias is added to the score of the label."""

import numpy as np
import pytest

from helpers.label_margins import case, changed
from helpers.nets import solver_from_text
from minicaffe.proto import TEST
from minicaffe.testing import CUDA, LayerProperties, assert_close, build_layer, run_layer

ADD = "type: 'LabelSpecificAdd' label_specific_add_param {{ {} }}"


class TestProperties(LayerProperties):
    cases = [case(ADD.format("bias: -0.35"), num_top=2), case(ADD.format("bias: -0.35"), phase=TEST)]


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
