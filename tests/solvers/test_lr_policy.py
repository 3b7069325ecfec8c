"""Learning rates by hand."""

import math

import pytest

from minicaffe.errors import SolverError
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.solvers.lr_policy import check_policy, learning_rate


def rates(text, iterations):
    param = parse_text(text, caffe_pb2.SolverParameter())
    check_policy(param)
    step, found = 0, []
    for it in iterations:
        rate, step = learning_rate(param, it, step)
        found.append(rate)
    return found


@pytest.mark.parametrize(
    "text, formula",
    [
        ("lr_policy: 'fixed'", lambda it: 1),
        ("lr_policy: 'step' gamma: 0.5 stepsize: 10", lambda it: 0.5 ** (it // 10)),
        ("lr_policy: 'exp' gamma: 0.9", lambda it: 0.9**it),
        ("lr_policy: 'inv' gamma: 0.1 power: 0.75", lambda it: (1 + 0.1 * it) ** -0.75),
        ("lr_policy: 'multistep' gamma: 0.5 stepvalue: [7, 20]", lambda it: 0.5 ** ((it >= 7) + (it >= 20))),
        ("lr_policy: 'poly' power: 2 max_iter: 40", lambda it: (1 - it / 40) ** 2),
        ("lr_policy: 'sigmoid' gamma: -0.5 stepsize: 9", lambda it: 1 / (1 + math.exp(0.5 * (it - 9)))),
    ],
)
def test_policy(text, formula):
    assert rates("base_lr: 2 " + text, range(40)) == pytest.approx([2 * formula(it) for it in range(40)], rel=1e-5)


def test_multistep_makes_up_for_a_jump_one_step_an_update():
    assert rates("base_lr: 1 lr_policy: 'multistep' gamma: 0.1 stepvalue: [5, 6]", [10, 11, 12]) == pytest.approx(
        [0.1, 0.01, 0.01]
    )


@pytest.mark.parametrize("text, message", [
    ("lr_policy: 'stp'", 'unknown lr_policy "stp" .did you mean "step"'),
    ("lr_policy: 'step'", 'lr_policy "step" needs a stepsize above 0, got 0'),
    ("lr_policy: 'poly'", 'lr_policy "poly" needs a max_iter above 0'),
])  # fmt: skip
def test_errors(text, message):
    with pytest.raises(SolverError, match=message):
        rates("base_lr: 1 " + text, [0])
