"""Hooks that a solver calls between the gradients and the update, also inside a captured step."""

import logging

import numpy as np
import pytest

import minicaffe
from minicaffe.core.engine import runner
from minicaffe.core.settings import restored, settings
from minicaffe.proto import caffe_pb2, parse_text

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 6 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""
SETTINGS = ["", "iter_size: 3", "clip_gradients: 0.05", "iter_size: 2 clip_gradients: 0.1 type: 'Adam'"]


@pytest.fixture(autouse=True)
def put_back():
    with restored():
        yield


def solver(text="", mode="CPU"):
    settings.engine = runner(mode)
    rate = "base_lr: 0.05 lr_policy: 'step' stepsize: 3 gamma: 0.5 momentum: 0.9 weight_decay: 0.01"
    param = parse_text(f"{rate} random_seed: 3 {text}", caffe_pb2.SolverParameter())
    parse_text(NET, param.net_param)
    made = minicaffe.get_solver(param)
    made.net.blobs["x"].data, made.net.blobs["y"].data = 0.7, 0.2
    return made


def halve(made):
    for blob in made.net.learnable_params:
        blob.diff[...] *= 0.5


def halve_on_the_device(made):
    from minicaffe.cuda import ops

    for blob in made.net.learnable_params:
        ops.scale(blob.count, 0.5, blob.mutable_gpu_diff(), dtype=blob.dtype)


def weights(made):
    return [blob.read_data().copy() for blob in made.net.learnable_params]


def test_a_hook_sees_the_sum_of_all_passes_before_anything_is_done_to_it():
    made, seen = solver("iter_size: 3 clip_gradients: 0.001"), []
    made.add_gradient_hook(lambda s: seen.append(s.net.learnable_params[0].diff.copy()))
    made.step(1)
    single = solver("iter_size: 1")
    single.net.clear_param_diffs()
    single.net.forward_backward()
    np.testing.assert_allclose(seen[0], 3 * single.net.learnable_params[0].diff, rtol=1e-5)


def test_hooks_and_callbacks_run_in_the_order_in_which_they_were_added():
    made, calls = solver(), []
    made.add_gradient_hook(lambda s: calls.append("first"))
    made.add_callback(lambda: calls.append("start"), lambda: calls.append("ready"))
    made.add_gradient_hook(lambda s: calls.append("last"))
    made.step(2)
    assert calls == ["start", "first", "ready", "last"] * 2


@pytest.mark.gpu
@pytest.mark.parametrize("text", SETTINGS)
def test_inside_a_captured_step(text, cuda_device, cuda_graphs):
    plain = solver(text)
    plain.add_gradient_hook(halve)
    plain.step(8)
    captured, calls = solver(text, "GPU"), []
    captured.add_gradient_hook(halve_on_the_device, capturable=True)
    captured.add_gradient_hook(lambda s: calls.append(s.iter), capturable=True)
    captured.step(8)
    assert captured.engine_step.captured
    assert len(calls) == 2, "a captured hook runs in the plain step and while it is recorded"
    for a, b in zip(weights(captured), weights(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize("text", SETTINGS)
def test_a_function_of_a_script_keeps_steps_plain(text, cuda_device, cuda_graphs, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    plain, looked_at, calls = solver(text), solver(text, "GPU"), []
    looked_at.add_gradient_hook(lambda s: calls.append(s.iter))
    looked_at.step(6)
    assert calls == list(range(6)) and not looked_at.engine_step.captured
    assert caplog.text.count("The step runs without a CUDA graph: it calls functions of a script") == 1
    settings.engine = runner("CPU")
    plain.step(6)
    for a, b in zip(weights(looked_at), weights(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.gpu
def test_a_hook_that_is_added_between_steps(cuda_device, cuda_graphs):
    plain, captured = solver(), solver("", "GPU")
    captured.step(4)
    captured.add_gradient_hook(halve_on_the_device, capturable=True)
    captured.step(4)
    assert captured.engine_step.captured
    settings.engine = runner("CPU")
    plain.step(4)
    plain.add_gradient_hook(halve)
    plain.step(4)
    for a, b in zip(weights(captured), weights(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
