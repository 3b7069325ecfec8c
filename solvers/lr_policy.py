"""Learning-rate policies: the learning rate of an iteration, computed from `lr_policy` and its fields.

`it` is the iteration, counted from 0; the formulas are Caffe's:

    fixed       base_lr
    step        base_lr * gamma ^ floor(it / stepsize)
    exp         base_lr * gamma ^ it
    inv         base_lr * (1 + gamma * it) ^ -power
    multistep   base_lr * gamma ^ (number of `stepvalue` entries reached)
    poly        base_lr * (1 - it / max_iter) ^ power; constant from max_iter on
    sigmoid     base_lr / (1 + exp(-gamma * (it - stepsize)))

and, of the ports of YOLO,

    multifixed  the stagelr of the first stageiter that is not below it; after the last one the last stagelr

With any policy, the rate of iterations below `rampup_interval` is that of a linear warm-up, as in NVIDIA's Caffe;
Intel's has `warmup_start_lr` and `warmup_iter` for the same:

    rampup_lr + (base_lr - rampup_lr) * it / rampup_interval

The arithmetic is C's, in Caffe's types: powers of gamma in double precision, everything else in single precision;
overflow and division by zero give inf, 0 or nan.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minicaffe.errors import SolverError, nearest
from minicaffe.proto.caffe_pb2 import SolverParameter

Rate = float | np.floating

_single, _double = np.float32, np.float64


@dataclass(frozen=True)
class Policy:
    """A learning-rate policy.

    rate: function (SolverParameter, iteration, current step) -> (learning rate, new step).
    checks: functions that raise SolverError for missing or wrong fields of a SolverParameter.
    reads: the fields that it reads besides base_lr and max_iter.
    """

    rate: Callable[[SolverParameter, int, int], tuple[Rate, int]]
    checks: tuple[Callable[[SolverParameter], None], ...]
    reads: tuple[str, ...]


POLICIES: dict[str, Policy] = {}


def policy(name: str, *checks: Callable[[SolverParameter], None], reads: tuple[str, ...] = ()) -> Callable:
    """Decorator that registers a function as the policy `lr_policy: "name"`; see `Policy` for its signature.

    checks, reads: see `Policy`.
    """

    def add(function: Callable) -> Callable:
        POLICIES[name] = Policy(function, checks, reads)
        return function

    return add


def learning_rate(param: SolverParameter, it: int, step: int) -> tuple[float, int]:
    """Return the learning rate of an iteration, and the step that belongs to it.

    param: the SolverParameter.  it: the iteration, from 0.  step: the current step (`SolverState.current_step`).
    The new step differs from `step` only for the policies step and multistep, and not during a warm-up.
    Raises `SolverError` as `check_policy` does, and for a negative step.
    """
    chosen = _checked(param)
    if step < 0:
        raise SolverError(f"current_step must not be negative, got {step}")
    with np.errstate(all="ignore"):
        rate: Rate
        start, interval = _warm_up_of(param)
        if it < interval:
            rate = start + (_single(param.base_lr) - start) * (_single(it) / _single(interval))
        else:
            rate, step = chosen.rate(param, it, step)
        return float(_single(rate)), step


def _warm_up_of(param: SolverParameter) -> tuple[np.floating, int]:
    """Return the rate at which the warm-up begins, and how many iterations it has."""
    if param.warmup_iter > 0:
        return _single(param.warmup_start_lr), param.warmup_iter
    return _single(param.rampup_lr), param.rampup_interval


def check_policy(param: SolverParameter) -> None:
    """Raise `SolverError` if `lr_policy` is missing or unknown, or one of its fields is missing or out of range."""
    _checked(param)


def _checked(param: SolverParameter) -> Policy:
    if not param.lr_policy:
        raise SolverError(f"a solver must give its lr_policy: known are {', '.join(sorted(POLICIES))}")
    try:
        found = POLICIES[param.lr_policy]
    except KeyError:
        hint = nearest(param.lr_policy, POLICIES)
        raise SolverError(
            f'unknown lr_policy "{param.lr_policy}"{hint}: known are {", ".join(sorted(POLICIES))}'
        ) from None
    for check in found.checks:
        check(param)
    return found


# -- checks of the fields ----------------------------------------------------------------------------------------------


def _gamma(param: SolverParameter) -> None:
    if not param.gamma >= 0:
        raise SolverError(f'lr_policy "{param.lr_policy}" needs a gamma of at least 0, got {param.gamma:g}')


def _stepsize(param: SolverParameter) -> None:
    if param.stepsize <= 0:
        raise SolverError(f'lr_policy "{param.lr_policy}" needs a stepsize above 0, got {param.stepsize}')


def _max_iter(param: SolverParameter) -> None:
    if param.max_iter <= 0:
        raise SolverError(f'lr_policy "{param.lr_policy}" needs a max_iter above 0, got {param.max_iter}')


def _stages(param: SolverParameter) -> None:
    rates, ends = list(param.stagelr), list(param.stageiter)
    if not rates or len(rates) != len(ends):
        raise SolverError(
            f'lr_policy "{param.lr_policy}" needs a stagelr for each stageiter, got {len(rates)} and {len(ends)}'
        )
    if ends != sorted(ends):
        raise SolverError(f'lr_policy "{param.lr_policy}" needs a growing stageiter, got {", ".join(map(str, ends))}')


# -- the policies ------------------------------------------------------------------------------------------------------


@policy("fixed")
def fixed(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """base_lr."""
    return param.base_lr, step


@policy("step", _stepsize, _gamma, reads=("gamma", "stepsize"))
def step_(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """base_lr * gamma ^ floor(it / stepsize)."""
    step = it // param.stepsize
    return _decayed(param, step), step


@policy("exp", _gamma, reads=("gamma",))
def exp(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """base_lr * gamma ^ it."""
    return _decayed(param, it), step


@policy("inv", _gamma, reads=("gamma", "power"))
def inv(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """base_lr * (1 + gamma * it) ^ -power."""
    base = _single(1) + _single(param.gamma) * _single(it)
    return _single(param.base_lr) * np.power(base, -_single(param.power)), step


@policy("multistep", _gamma, reads=("gamma", "stepvalue"))
def multistep(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """base_lr * gamma ^ step; the step advances by at most one per update, as in Caffe, even after a jump of `it`."""
    if step < len(param.stepvalue) and it >= param.stepvalue[step]:
        step += 1
    return _decayed(param, step), step


@policy("poly", _max_iter, reads=("power",))
def poly(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """base_lr * max(0, 1 - it / max_iter) ^ power; Caffe's base is negative after max_iter, which mostly gives nan."""
    left = max(_single(0), _single(1) - _single(it) / _single(param.max_iter))
    return _single(param.base_lr) * np.power(left, _single(param.power)), step


@policy("sigmoid", _gamma, _stepsize, reads=("gamma", "stepsize"))
def sigmoid(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """base_lr / (1 + exp(-gamma * (it - stepsize)))."""
    late = _single(it) - _single(param.stepsize)
    return _single(param.base_lr) / (_single(1) + np.exp(-_single(param.gamma) * late)), step


@policy("multifixed", _stages, reads=("stageiter", "stagelr"))
def multifixed(param: SolverParameter, it: int, step: int) -> tuple[Rate, int]:
    """stagelr[stage]; the stage is the first whose stageiter is not below it, or the last one."""
    stage = bisect.bisect_left(param.stageiter, it)
    return param.stagelr[min(stage, len(param.stagelr) - 1)], step


def _decayed(param: SolverParameter, times: int) -> Rate:
    """Return base_lr * gamma ^ times."""
    return _double(param.base_lr) * np.power(_double(param.gamma), _double(times))
