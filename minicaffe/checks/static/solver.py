"""Fields of the solver: those that its policy and its type do not read, and those that they miss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minicaffe.checks.finding import Found, finds
from minicaffe.checks.subject import Subject
from minicaffe.errors import SolverError
from minicaffe.solvers.checks import check_ranges
from minicaffe.solvers.lr_policy import POLICIES, check_policy
from minicaffe.solvers.registry import solver_class

_POLICY_FIELDS = ("gamma", "power", "stepsize", "stepvalue")
#: the types that read a field
_OF_TYPE = {
    "momentum2": ("Adam",),
    "rms_decay": ("RMSProp",),
    "delta": ("Adam", "AdaGrad", "RMSProp", "AdaDelta"),
}
#: what a policy computes without a field, whose default is 0
_WITHOUT = {
    "gamma": {
        "step": "the rate is 0 from iteration {stepsize} on",
        "multistep": "the rate is 0 from the first stepvalue on",
        "exp": "the rate is 0 after the first iteration",
        "inv": "the rate stays at base_lr",
        "sigmoid": "the rate is base_lr / 2 in every iteration",
    },
    "power": {"inv": "the rate stays at base_lr", "poly": "the rate stays at base_lr"},
    "stepvalue": {"multistep": "the rate stays at base_lr"},
}
_EXAMPLES = {"gamma": "gamma: 0.1", "power": "power: 1", "stepvalue": "a stepvalue for each iteration of a step"}


def _place(field: str) -> str:
    return f"solver: {field}"


def _is_given(param: Any, field: str) -> bool:
    return bool(param.stepvalue) if field == "stepvalue" else param.HasField(field)


@finds("static", "solver-invalid", "error")
def invalid(subject: Subject) -> Iterator[Found]:
    """Fields with which no solver can be made."""
    for check in (check_ranges, check_policy, lambda param: solver_class(param.type)):
        try:
            check(subject.param)
        except SolverError as error:
            yield "solver", str(error)


@finds("static", "no-base-lr", "error")
def no_rate(subject: Subject) -> Iterator[Found]:
    """A solver without base_lr."""
    if not subject.param.HasField("base_lr"):
        yield _place("base_lr"), "base_lr is not given, so the rate is 0 and nothing is learned: write base_lr: 0.01"


@finds("static", "unused-solver-field", "warning")
def unused(subject: Subject) -> Iterator[Found]:
    """Fields that the policy or the type does not read."""
    param = subject.param
    reads = POLICIES[param.lr_policy].reads if param.lr_policy in POLICIES else _POLICY_FIELDS
    for field in _POLICY_FIELDS:
        if _is_given(param, field) and field not in reads:
            others = " or ".join(f'"{name}"' for name, other in POLICIES.items() if field in other.reads)
            yield (
                _place(field),
                f'{field} has no effect with lr_policy "{param.lr_policy}": remove it, or write lr_policy: {others}',
            )
    for field, types in _OF_TYPE.items():
        if param.HasField(field) and param.type not in types:
            yield (
                _place(field),
                f'{field} has no effect with type "{param.type}": remove it, or write type: '
                + " or ".join(f'"{name}"' for name in types),
            )
    for field, without, is_missing in (
        ("test_interval", "test_iter, the batches of a test", not param.test_iter),
        ("test_compute_loss", "test_iter, the batches of a test", not param.test_iter),
        ("regularization_type", "weight_decay", not param.weight_decay),
    ):
        if param.HasField(field) and getattr(param, field) and is_missing:
            name = without.partition(",")[0]
            yield _place(field), f"{field} has no effect without {name}: remove it, or write {without}"
    if param.HasField("rampup_lr") and not param.rampup_interval:
        yield (
            _place("rampup_lr"),
            "rampup_lr has no effect without rampup_interval: remove it, or write rampup_interval",
        )


@finds("static", "missing-solver-field", "warning")
def missing(subject: Subject) -> Iterator[Found]:
    """Fields that the policy reads, and whose default is of no use."""
    param = subject.param
    for field, effects in _WITHOUT.items():
        if param.lr_policy in effects and not _is_given(param, field):
            effect = effects[param.lr_policy].format(stepsize=param.stepsize)
            yield (
                _place(field),
                f'lr_policy "{param.lr_policy}" reads {field}, which is not given: {effect}: '
                f'write {_EXAMPLES[field]}, or lr_policy: "fixed"',
            )


@finds("static", "stepvalue-order", "warning")
def order_of_steps(subject: Subject) -> Iterator[Found]:
    """Step values that do not increase."""
    values = list(subject.param.stepvalue) if subject.param.lr_policy == "multistep" else []
    for before, after in zip(values, values[1:]):
        if after <= before:
            yield (
                _place("stepvalue"),
                f"stepvalue {after} comes after {before}, so its step is taken one iteration after that of {before}: "
                "write the step values in increasing order",
            )


@finds("static", "step-not-reached", "info")
def after_the_end(subject: Subject) -> Iterator[Found]:
    """Steps at or after max_iter."""
    param = subject.param
    steps = {"step": [param.stepsize], "multistep": list(param.stepvalue)}.get(param.lr_policy, [])
    for field, step in zip(("stepsize" if param.lr_policy == "step" else "stepvalue",) * len(steps), steps):
        if step >= param.max_iter > 0 and not (param.lr_policy == "step" and param.gamma == 1):
            yield _place(field), f"{field} {step} is not reached before max_iter {param.max_iter}"
