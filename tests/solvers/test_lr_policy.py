"""Learning rates against values computed by hand and by the C library."""

import ctypes
import math

import numpy as np
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
        ("lr_policy: 'sigmoid' gamma: 0.5 stepsize: 9", lambda it: 1 / (1 + math.exp(-0.5 * (it - 9)))),
        (
            "lr_policy: 'multifixed' stagelr: [6, 4, 1] stageiter: [3, 9, 20]",
            lambda it: 3 if it <= 3 else 2 if it <= 9 else 0.5,
        ),
    ],
)
def test_policy(text, formula):
    assert rates("base_lr: 2 " + text, range(40)) == pytest.approx([2 * formula(it) for it in range(40)], rel=1e-5)


@pytest.mark.parametrize(
    "text, after",
    [
        ("lr_policy: 'fixed'", lambda it: 2),
        ("lr_policy: 'step' gamma: 0.5 stepsize: 10", lambda it: 2 * 0.5 ** (it // 10)),
        ("lr_policy: 'multistep' gamma: 0.5 stepvalue: [5, 14]", lambda it: 2 * 0.5 ** (1 + (it >= 14))),
        ("lr_policy: 'poly' power: 1 max_iter: 40", lambda it: 2 * (1 - it / 40)),
    ],
)
def test_warm_up(text, after):
    """Linear from rampup_lr, or Intel's warmup_start_lr, to base_lr; then the policy, as if from iteration 0."""
    for start in (0, 0.5):
        expected = [start + (2 - start) * it / 12 for it in range(12)] + [after(it) for it in range(12, 20)]
        for warm_up in (f"rampup_interval: 12 rampup_lr: {start}", f"warmup_iter: 12 warmup_start_lr: {start}"):
            assert rates(f"base_lr: 2 {warm_up} {text}", range(20)) == pytest.approx(expected, rel=1e-6)


def test_multistep_makes_up_for_a_jump_one_step_an_update():
    assert rates("base_lr: 1 lr_policy: 'multistep' gamma: 0.1 stepvalue: [5, 6]", [10, 11, 12]) == pytest.approx(
        [0.1, 0.01, 0.01]
    )


@pytest.mark.parametrize("text, message", [
    ("lr_policy: 'stp'", 'unknown lr_policy "stp" .did you mean "step"'),
    ("lr_policy: 'step'", 'lr_policy "step" needs a stepsize above 0, got 0'),
    ("lr_policy: 'sigmoid' gamma: 1", 'lr_policy "sigmoid" needs a stepsize above 0, got 0'),
    ("lr_policy: 'poly'", 'lr_policy "poly" needs a max_iter above 0'),
    ("lr_policy: 'step' stepsize: 5 gamma: -0.1", 'lr_policy "step" needs a gamma of at least 0, got -0.1'),
    ("lr_policy: 'exp' gamma: -2", 'lr_policy "exp" needs a gamma of at least 0, got -2'),
    ("lr_policy: 'inv' gamma: -0.5 power: 0.75", 'lr_policy "inv" needs a gamma of at least 0, got -0.5'),
    ("lr_policy: 'multistep' gamma: -1", 'lr_policy "multistep" needs a gamma of at least 0, got -1'),
    ("lr_policy: 'multifixed'", 'lr_policy "multifixed" needs a stagelr for each stageiter, got 0 and 0'),
    ("lr_policy: 'multifixed' stagelr: 1", 'lr_policy "multifixed" needs a stagelr for each stageiter, got 1 and 0'),
    ("lr_policy: 'multifixed' stagelr: [1, 2] stageiter: [9, 3]", "needs a growing stageiter, got 9, 3"),
    ("lr_policy: 'sigmoid' stepsize: 5 gamma: -1", 'lr_policy "sigmoid" needs a gamma of at least 0, got -1'),
])  # fmt: skip
def test_errors(text, message):
    with pytest.raises(SolverError, match=message):
        rates("base_lr: 1 " + text, [0])
    with pytest.raises(SolverError, match=message):  # as if a script had changed a solver's parameters
        learning_rate(parse_text("base_lr: 1 " + text, caffe_pb2.SolverParameter()), 7, 0)


# -- all iterations ----------------------------------------------------------------------------------------------------

libm = ctypes.CDLL(None)
for _name, _type in (("pow", ctypes.c_double), ("powf", ctypes.c_float), ("expf", ctypes.c_float)):
    _function = getattr(libm, _name)
    _function.restype, _function.argtypes = _type, [_type] * (1 if _name == "expf" else 2)

F = np.float32

# The formulas of Caffe's C++ code, with its types, evaluated by the C library.
IN_C = {
    "step": lambda p, it: p.base_lr * libm.pow(p.gamma, it // p.stepsize),
    "exp": lambda p, it: p.base_lr * libm.pow(p.gamma, it),
    "inv": lambda p, it: F(p.base_lr) * F(libm.powf(F(1) + F(p.gamma) * F(it), -p.power)),
    "poly": lambda p, it: F(p.base_lr) * F(libm.powf(F(1) - F(it) / F(p.max_iter), p.power)),
    "sigmoid": lambda p, it: F(p.base_lr) * (
        F(1) / (F(1) + F(libm.expf(-F(p.gamma) * (F(it) - F(p.stepsize)))))
    ),
}  # fmt: skip
ITERATIONS = [0, 1, 2, 3, 99, 100, 150, 6999, 8000, 100_000, 2**24 + 1, 2**31 - 2, 2**31 - 1]
GAMMAS = [0, 1e-30, 0.1, 0.5, 0.99, 0.9999999, 1, 1.0000001, 1.01, 10, 3e38]
POWERS = [-40, -1, 0, 0.5, 0.9, 1, 2, 40]
FIELDS = {
    "step": [{"gamma": g, "stepsize": s} for g in GAMMAS for s in (1, 10, 2**31 - 1)],
    "exp": [{"gamma": g} for g in GAMMAS],
    "inv": [{"gamma": g, "power": p} for g in GAMMAS for p in POWERS],
    "poly": [{"power": p, "max_iter": n} for p in POWERS for n in (1, 100_000, 2**31 - 1)],
    "sigmoid": [{"gamma": g, "stepsize": s} for g in GAMMAS for s in (1, 7000, 2**31 - 1)],
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_iteration_has_the_rate_of_c(name):
    for fields in FIELDS[name]:
        param = caffe_pb2.SolverParameter(base_lr=0.1, lr_policy=name, **fields)
        check_policy(param)
        for it in ITERATIONS:
            it = min(it, param.max_iter) if name == "poly" else it
            with np.errstate(all="ignore"):
                expected = float(F(IN_C[name](param, it)))
            rate, _ = learning_rate(param, it, 0)
            assert type(rate) is float
            assert rate == pytest.approx(expected, rel=2e-5, abs=1e-44), (param, it)


def test_a_negative_step_is_refused():
    param = caffe_pb2.SolverParameter(base_lr=1, lr_policy="multistep", gamma=0.5, stepvalue=[2, 4])
    assert learning_rate(param, 9, 5) == (0.5**5, 5)
    with pytest.raises(SolverError, match="current_step must not be negative, got -5"):
        learning_rate(param, 9, -5)


def test_overflow_and_division_by_zero():
    assert rates("base_lr: 0.1 lr_policy: 'exp' gamma: 1.01", [100_000]) == [math.inf]
    assert rates("base_lr: 0.1 lr_policy: 'step' gamma: 10 stepsize: 10", [5000]) == [math.inf]
    assert rates("base_lr: 0.1 lr_policy: 'sigmoid' gamma: 0.1 stepsize: 10000", [0]) == [0]
    assert rates("base_lr: 0.1 lr_policy: 'poly' power: -1 max_iter: 100", [100]) == [math.inf]
    assert rates("base_lr: 0.1 lr_policy: 'multistep' gamma: 1e30 stepvalue: [1, 2]", [4, 5])[1] == math.inf


def test_poly_stays_at_its_end():
    for power, end in ((0.9, 0), (1, 0), (2, 0), (0, 1), (-1, math.inf)):
        assert rates(f"base_lr: 1 lr_policy: 'poly' power: {power} max_iter: 100", [100, 101, 2**31 - 1]) == [end] * 3


def test_reading_the_rate_changes_nothing(caplog):
    param = parse_text("base_lr: 1 lr_policy: 'multistep' gamma: 0.1 stepvalue: 2", caffe_pb2.SolverParameter())
    with caplog.at_level("INFO", "minicaffe"):
        assert [learning_rate(param, 2, 0)[0] for _ in range(3)] == pytest.approx([0.1] * 3)
    assert not caplog.records
