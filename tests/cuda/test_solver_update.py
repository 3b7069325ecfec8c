"""The fused update against the rules in solvers/, on the processor."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicaffe.blob import Blob
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.solver import CHUNK, FusedUpdate
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.solvers import base

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("thread_order")]

SHAPES = [(3, 5), (1,), (CHUNK,), (2, CHUNK // 2 + 1), (), (0,)]
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
}


class Twin:
    """A solver of the processor's, and the device's update over equal blobs."""

    def __init__(self, rule, settings, dtype):
        text = f"base_lr: 0.1 lr_policy: 'inv' gamma: 0.1 power: 0.75 {RULES[rule]} {SETTINGS[settings]}"
        self.param = parse_text(text, caffe_pb2.SolverParameter())
        self.rng = np.random.default_rng(5)

        import minicaffe.solvers  # noqa: F401

        self.solver = object.__new__(base._registry[rule])
        self.solver.param, self.solver.iter, self.solver.current_step = self.param, 0, 0
        mine, theirs = ([Blob(shape, dtype) for shape in SHAPES] for _ in range(2))
        for a, b in zip(mine, theirs, strict=True):
            a.data[...] = b.data[...] = self.rng.standard_normal(a.shape)
        mults = [1, 2, 0.5, 1, 0, 1], [1, 0, 1, 2, 1, 1]
        self.solver.net = SimpleNamespace(learnable_params=theirs, lr_mults=mults[0], decay_mults=mults[1])
        self.solver.set_up()
        self.params, self.history = mine, [Blob(h.shape, dtype) for h in self.solver.history]
        self.update = FusedUpdate(rule, mine, self.history, *mults, self.param)

    def draw(self):
        for a, b in zip(self.params, self.solver.net.learnable_params, strict=True):
            a.diff[...] = b.diff[...] = self.rng.standard_normal(a.shape)

    def rate(self):
        correction = self.solver.correction() if hasattr(self.solver, "correction") else 1
        return self.solver.lr * correction

    def compare(self, tolerance):
        pairs = list(zip(self.params, self.solver.net.learnable_params, strict=True))
        for a, b in pairs:
            np.testing.assert_allclose(a.data, b.data, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(a.diff, b.diff, rtol=10 * tolerance, atol=10 * tolerance)
        for a, b in zip(self.history, self.solver.history, strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("rule", RULES)
def test_against_the_processor(rule, settings, dtype, tolerance):
    twin = Twin(rule, settings, dtype)
    for _ in range(3):
        twin.draw()
        twin.update.set_rate(twin.rate())
        twin.update.apply()
        twin.solver.apply_update()
        twin.compare(tolerance)


def test_the_norm_is_that_of_all_diffs():
    twin = Twin("SGD", "clipped", np.float64)
    twin.draw()
    norm = np.sqrt(sum((blob.diff**2).sum() for blob in twin.params))
    twin.update.set_rate(0.1)
    twin.update.apply()
    assert twin.update.norm() == pytest.approx(norm)


def test_clear_sets_every_diff_to_zero_and_nothing_else():
    twin = Twin("SGD", "plain", np.float32)
    twin.draw()
    data = [blob.data.copy() for blob in twin.params]
    twin.update.clear()
    for blob, before in zip(twin.params, data, strict=True):
        assert not blob.diff.any() and (blob.data == before).all()


def test_a_captured_update_takes_the_new_rate():
    pytest.importorskip("cuda.bindings")
    twin, lines = Twin("Adam", "clipped", np.float64), []
    step = CapturedStep(twin.update.apply, report=lines.append)
    for _ in range(5):
        twin.draw()
        twin.update.set_rate(twin.rate())
        step()
        twin.solver.apply_update()
        twin.compare(1e-12)
    assert step.captured and lines == []


def test_parameters_that_move_are_followed():
    twin = Twin("SGD", "plain", np.float64)
    for turn in range(3):
        twin.draw()
        if turn == 1:
            moved = Blob(SHAPES[0], np.float64)
            moved.data[...] = twin.params[0].data
            twin.params[0].share_data(moved)
        twin.update.set_rate(twin.rate())
        twin.update.apply()
        twin.solver.apply_update()
    twin.compare(1e-12)
