"""Each update rule against its formula, evaluated in float64 on a least-squares problem, step by step."""

import numpy as np
import pytest

from helpers.nets import solver_from_text
from minicaffe.errors import SolverError
from minicaffe.testing import assert_close

NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 6 dim: 3 } shape { dim: 6 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 1 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


def solver(text):
    made = solver_from_text(f"lr_policy: 'fixed' base_lr: 0.1 random_seed: 1 {text}", NET)
    rng = np.random.default_rng(3)
    made.net.blobs["x"].data[...] = rng.standard_normal((6, 3))
    made.net.blobs["t"].data[...] = rng.standard_normal((6, 1))
    return made


class Reference:
    """The same training, computed directly in float64."""

    def __init__(self, made):
        self.p = made.param
        self.x, self.t = made.net.blobs["x"].data.astype(float), made.net.blobs["t"].data.astype(float)
        self.w = [b.data.astype(float).copy() for b in made.net.params["ip"]]
        self.h = [[np.zeros_like(w), np.zeros_like(w)] for w in self.w]
        self.it = 0

    def gradients(self):
        d = (self.x @ self.w[0].T + self.w[1] - self.t) / 6
        grads = [d.T @ self.x, d.sum(0)]
        if self.p.clip_gradients >= 0:
            norm = np.sqrt(
                sum((g * self.p.iter_size) ** 2 for g in grads[0].ravel()) + ((grads[1] * self.p.iter_size) ** 2).sum()
            )
            grads = [g * min(1, self.p.clip_gradients / norm) for g in grads]
        decay = self.p.weight_decay  # the bias has decay_mult 0
        grads[0] = grads[0] + decay * (self.w[0] if self.p.regularization_type == "L2" else np.sign(self.w[0]))
        return grads

    def rate(self, i, g):
        """The learning rate of a parameter; g: its gradient, which without weight_decay is not regularised."""
        if not self.p.larc:
            return self.p.base_lr * (1, 2)[i]
        own = (1 - self.p.momentum) * self.p.larc_eta * np.linalg.norm(self.w[i]) / np.linalg.norm(g)
        if not np.isfinite(own) or own == 0:
            own = 1
        return self.p.base_lr * own if self.p.larc_policy == "scale" else min(self.p.base_lr, own)

    def step(self):
        for i, g in enumerate(self.gradients()):
            self.w[i] = self.w[i] - self.rule(g, self.h[i], self.rate(i, g))
        self.it += 1

    def rule(self, g, h, lr):
        m, delta, kind = self.p.momentum, self.p.delta, self.p.type
        if kind == "SGD":
            h[0] = m * h[0] + lr * g
            return h[0]
        if kind == "Nesterov":
            old, h[0] = h[0], m * h[0] + lr * g
            return (1 + m) * h[0] - m * old
        if kind == "AdaGrad":
            h[0] = h[0] + g**2
            return lr * g / (np.sqrt(h[0]) + delta)
        if kind == "RMSProp":
            h[0] = self.p.rms_decay * h[0] + (1 - self.p.rms_decay) * g**2
            return lr * g / (np.sqrt(h[0]) + delta)
        if kind == "AdaDelta":
            h[0] = m * h[0] + (1 - m) * g**2
            u = g * np.sqrt((h[1] + delta) / (h[0] + delta))
            h[1] = m * h[1] + (1 - m) * u**2
            return lr * u
        t, b2 = self.it + 1, self.p.momentum2
        h[0] = m * h[0] + (1 - m) * g
        h[1] = b2 * h[1] + (1 - b2) * g**2
        return lr * np.sqrt(1 - b2**t) / (1 - m**t) * h[0] / (np.sqrt(h[1]) + delta)


@pytest.mark.parametrize("more", ["larc_eta: 0.5", "larc_eta: 0.2 larc_policy: 'clip' iter_size: 2"])
def test_larc(more, engine):
    made = solver(f"momentum: 0.4 larc: true {more}")
    reference = Reference(made)
    for _ in range(6):
        made.step(1)
        reference.step()
    for blob, expected in zip(made.net.params["ip"], reference.w):
        assert_close(blob.data, expected, rtol=2e-4, atol=1e-4)


def test_larc_is_of_the_gradient_before_the_decay_and_leaves_frozen_parameters(engine):
    made = solver("larc: true larc_eta: 0.5 weight_decay: 0.3")
    made.net.lr_mults[1] = 0
    reference = Reference(solver(""))  # without decay
    gradient, weights = reference.gradients()[0], reference.w[0]
    made.step(1)
    rate = 0.1 * 0.5 * np.linalg.norm(weights) / np.linalg.norm(gradient)
    assert_close(made.history[0].data, rate * (gradient + 0.3 * weights), rtol=2e-4, atol=1e-5)
    assert not made.net.params["ip"][1].data.any()


@pytest.mark.parametrize("text", ["type: 'Adam'", "larc_policy: 'none'"])
def test_larc_of_another_type_or_policy_is_an_error(text):
    with pytest.raises(SolverError, match="larc needs a solver of type SGD and the larc_policy scale or clip, got "):
        solver(f"larc: true {text}")


RULES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


@pytest.mark.parametrize(
    "more",
    [
        "",
        "weight_decay: 0.3",
        "weight_decay: 0.3 regularization_type: 'L1'",
        "iter_size: 3",
        "clip_gradients: 0.5 iter_size: 2",
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_update(rule, more, engine):
    momentum = {"AdaGrad": "", "RMSProp": "rms_decay: 0.9"}.get(rule, "momentum: 0.9")
    made = solver(f"type: '{rule}' delta: 1e-4 {momentum} {more}")
    reference = Reference(made)
    for _ in range(6):
        made.step(1)
        reference.step()
    for blob, expected in zip(made.net.params["ip"], reference.w):
        assert_close(blob.data, expected, rtol=2e-4, atol=1e-4)
    count = 2 if rule in ("AdaDelta", "Adam") else 1
    assert len(made.history) == 2 * count
    for k in range(count):
        assert_close(made.history[2 * k].data, reference.h[0][k], rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("momenta", "correction"),
    [
        ("momentum: 1", np.inf),
        ("momentum: 1 momentum2: 1", np.nan),
        ("momentum: 0.9 momentum2: 1", 0),
        ("momentum: 0.9 momentum2: 1.5", np.nan),
        ("momentum: 2", None),
    ],
)
def test_adam_divides_by_zero_as_c_does(momenta, correction, engine):
    """The original computes sqrt(1 - b2^t) / (1 - b1^t) unchecked; what it gives reaches the weights."""
    made = solver(f"type: 'Adam' {momenta}")
    if correction is not None:
        np.testing.assert_equal(made.correction(), correction)
    made.step(3)
    moved = made.net.params["ip"][0].data
    assert np.isfinite(moved).all() if correction in (0, None) else np.isnan(moved).all()
    made.iter = 2**31 - 2
    made.step(1)


@pytest.mark.parametrize("rule", RULES)
def test_a_rate_beyond_all_numbers(rule, engine):
    """Infinite weights, but no exception and no warning."""
    momentum = "" if rule in ("AdaGrad", "RMSProp") else "momentum: 0.5"
    made = solver(f"type: '{rule}' {momentum} gamma: 1e30")
    made.param.lr_policy, made.iter = "exp", 1
    made.step(1)
    made.iter = 2**31 - 2
    assert made.lr == np.inf
    made.step(1)
    assert not np.isfinite(made.net.params["ip"][0].data).any()


def test_a_parameter_with_rate_zero_stays():
    made = solver("type: 'SGD'")
    made.net.lr_mults[0] = 0
    before = made.net.params["ip"][0].data.copy()
    made.step(2)
    np.testing.assert_array_equal(made.net.params["ip"][0].data, before)


@pytest.mark.parametrize("rule", ["AdaGrad", "RMSProp"])
def test_momentum_is_refused(rule):
    with pytest.raises(SolverError, match=f"momentum cannot be used with {rule}: expected 0, got 0.9"):
        solver(f"type: '{rule}' momentum: 0.9")


def test_unknown_names_tell_the_nearest():
    with pytest.raises(SolverError, match='unknown solver type "Adm" .did you mean "Adam"'):
        solver("type: 'Adm'")
    with pytest.raises(SolverError, match='unknown regularization_type "L3"'):
        solver("regularization_type: 'L3'")
