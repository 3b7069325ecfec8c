"""Learning-rate policies: the rate of an iteration from `lr_policy` and its fields.

With it the iteration, as the original computes them:

    fixed       base_lr
    step        base_lr * gamma ^ floor(it / stepsize)
    exp         base_lr * gamma ^ it
    inv         base_lr * (1 + gamma * it) ^ -power
    multistep   as step, the steps at the iterations `stepvalue`
    poly        base_lr * (1 - it / max_iter) ^ power
    sigmoid     base_lr / (1 + exp(-gamma * (it - stepsize)))
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from minicaffe.errors import SolverError, nearest

log = logging.getLogger("minicaffe")

# (SolverParameter, iteration, step so far) -> (rate, step)
Policy = Callable[..., tuple[float, int]]

POLICIES: dict[str, Policy] = {}


def policy(name: str) -> Callable[[Policy], Policy]:
    """Register a policy under the name that solver prototxts use."""

    def add(function: Policy) -> Policy:
        POLICIES[name] = function
        return function

    return add


def learning_rate(param, it: int, step: int) -> tuple[float, int]:
    """The rate of iteration `it`, and the step (of step and multistep) that a snapshot must remember."""
    return _find(param)(param, it, step)


def check_policy(param) -> None:
    """Raise `SolverError` for a policy that is unknown or lacks a field, before training begins."""
    if not param.lr_policy:
        raise SolverError(f"a solver must give its lr_policy: known are {', '.join(sorted(POLICIES))}")
    _find(param)
    if param.lr_policy == "step" and param.stepsize <= 0:
        raise SolverError(f'lr_policy "{param.lr_policy}" needs a stepsize above 0, got {param.stepsize}')
    if param.lr_policy == "poly" and param.max_iter <= 0:
        raise SolverError(f'lr_policy "poly" needs a max_iter above 0, got {param.max_iter}')


def _find(param) -> Policy:
    try:
        return POLICIES[param.lr_policy]
    except KeyError:
        hint = nearest(param.lr_policy, POLICIES)
        raise SolverError(
            f'unknown lr_policy "{param.lr_policy}"{hint}: known are {", ".join(sorted(POLICIES))}'
        ) from None


@policy("fixed")
def fixed(param, it, step):
    return param.base_lr, step


@policy("step")
def step_(param, it, step):
    step = it // param.stepsize
    return param.base_lr * param.gamma**step, step


@policy("exp")
def exp(param, it, step):
    return param.base_lr * param.gamma**it, step


@policy("inv")
def inv(param, it, step):
    return param.base_lr * (1 + param.gamma * it) ** -param.power, step


@policy("multistep")
def multistep(param, it, step):
    """At most one step an update, as the original: after a jump the steps are made up one by one."""
    if step < len(param.stepvalue) and it >= param.stepvalue[step]:
        step += 1
        log.info("MultiStep Status: Iteration %d, step = %d", it, step)
    return param.base_lr * param.gamma**step, step


@policy("poly")
def poly(param, it, step):
    return param.base_lr * max(0.0, 1 - it / param.max_iter) ** param.power, step


@policy("sigmoid")
def sigmoid(param, it, step):
    return param.base_lr / (1 + math.exp(-param.gamma * (it - param.stepsize))), step
