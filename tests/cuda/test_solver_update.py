"""The fused update on the GPU against the update rules on the CPU, for every rule and setting."""

from types import SimpleNamespace

import numpy as np
import pytest

import minicaffe.solvers  # noqa: F401  (registers the rules)
from minicaffe.core.blob import Blob
from minicaffe.core.engine import runner
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.step import CudaStep
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.solvers import registry
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("thread_order")]

SHAPES = [(3, 5), (1,), (4096,), (2, 2049), (), (0,)]
RULES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.95",
    "AdaGrad": "delta: 1e-4",
    "RMSProp": "rms_decay: 0.8 delta: 1e-4",
    "AdaDelta": "momentum: 0.9 delta: 1e-5",
    "Adam": "momentum: 0.9 momentum2: 0.99",
}
SETTINGS = {
    "plain": "",
    "L2": "weight_decay: 0.02",
    "L1": "weight_decay: 0.03 regularization_type: 'L1'",
    "iter_size": "iter_size: 4 weight_decay: 0.01",
    "clipped": "clip_gradients: 0.5 weight_decay: 0.01 iter_size: 2",
    "not clipped": "clip_gradients: 1e6",
    "larc": "larc: true larc_eta: 0.3 weight_decay: 0.02 iter_size: 3",
    "larc clips": "larc: true larc_eta: 0.9 larc_policy: 'clip' clip_gradients: 0.5",
}


class Twins:
    """Two solvers with equal parameters: one updates on the CPU, the other on the GPU."""

    def __init__(self, rule, settings, dtype):
        self.rng = np.random.default_rng(5)
        text = f"base_lr: 0.1 lr_policy: 'inv' gamma: 0.1 power: 0.75 {RULES[rule]} {SETTINGS[settings]}"
        self.cpu, self.gpu = (self.solver(rule, text, dtype) for _ in range(2))
        for a, b in self.pairs():
            a.data[...] = b.data[...] = self.rng.standard_normal(a.shape)

    @staticmethod
    def solver(rule, text, dtype):
        solver = object.__new__(registry._registry[rule])
        solver.param, solver.iter, solver.current_step = parse_text(text, caffe_pb2.SolverParameter()), 0, 0
        params = [Blob(shape, dtype) for shape in SHAPES]
        mults = {"lr_mults": [1, 2, 0.5, 1, 0, 1], "decay_mults": [1, 0, 1, 2, 1, 1]}
        solver.net = SimpleNamespace(learnable_params=params, **mults)
        solver.steps = {}
        solver.setup()
        return solver

    def pairs(self):
        return list(zip(self.cpu.net.learnable_params, self.gpu.net.learnable_params, strict=True))

    def draw(self):
        for a, b in self.pairs():
            a.diff[...] = b.diff[...] = self.rng.standard_normal(a.shape)

    def update(self):
        self.cpu.apply_update()
        with computing_with(gpu=True):
            self.gpu.apply_update()

    def compare(self, tolerance):
        for a, b in self.pairs():
            np.testing.assert_allclose(b.data, a.data, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(b.diff, a.diff, rtol=10 * tolerance, atol=10 * tolerance)
        for a, b in zip(self.cpu.history, self.gpu.history, strict=True):
            np.testing.assert_allclose(b.data, a.data, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize(
    "rule, settings", [(rule, each) for rule in RULES for each in SETTINGS if rule == "SGD" or "larc" not in each]
)
def test_against_the_processor(rule, settings, dtype, tolerance):
    twins = Twins(rule, settings, dtype)
    for _ in range(3):
        twins.draw()
        twins.update()
        twins.compare(tolerance)


def test_the_norm_is_that_of_all_diffs():
    twins = Twins("SGD", "clipped", np.float64)
    twins.draw()
    norm = np.sqrt(sum((blob.diff**2).sum() for blob in twins.gpu.net.learnable_params))
    twins.update()
    assert twins.gpu.steps[runner("GPU")].fused_update().norm() == pytest.approx(norm)


def test_a_captured_update_takes_the_new_rate(cuda_graphs):
    twins, lines = Twins("Adam", "clipped", np.float64), []
    update = CudaStep(twins.gpu).fused_update()
    step = CapturedStep(update.apply, report=lines.append)
    for _ in range(5):
        twins.draw()
        update.set_rate(twins.cpu.lr * twins.cpu.correction())
        step()
        twins.cpu.apply_update()
        twins.compare(1e-12)
    assert step.captured and lines == []


def test_parameters_that_move_are_followed():
    twins = Twins("SGD", "plain", np.float64)
    for turn in range(3):
        twins.draw()
        if turn == 1:
            moved, blob = Blob(SHAPES[0], np.float64), twins.gpu.net.learnable_params[0]
            moved.data[...] = blob.data
            blob.share_data(moved)
        twins.update()
        twins.compare(1e-12)


@pytest.mark.parametrize(
    "settings, expected", [("plain", ["sgd"]), ("clipped", ["clip", "sgd"]), ("larc", ["larc", "sgd"])]
)
def test_launches(settings, expected, launched):
    """The rate is sent when it changes."""
    update = CudaStep(Twins("SGD", settings, np.float32).gpu).fused_update()
    for rate, first in ((0.1, ["set_rate"]), (0.1, []), (0.05, ["set_rate"])):
        update.set_rate(rate)
        update.apply()
        assert launched == [f"solver.{name}" for name in first + expected]
        launched.clear()
