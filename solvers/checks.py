"""Range checks of the numbers in a SolverParameter."""

from __future__ import annotations

import logging
import math

from minicaffe.errors import SolverError

log = logging.getLogger("minicaffe")

#: the minimum of each integer field
_AT_LEAST = {
    "iter_size": 1, "average_loss": 1, "max_iter": 0, "display": 0, "snapshot": 0, "test_interval": 0,
    "rampup_interval": 0,
}  # fmt: skip


def check_numbers(param) -> None:
    """Check the ranges as `check_ranges` does; log a warning if `base_lr` is not given."""
    check_ranges(param)
    if not param.HasField("base_lr"):
        log.warning("The solver gives no base_lr: at rate 0 nothing is learned")


def check_ranges(param) -> None:
    """Raise `SolverError` for an invalid number: not finite, negative, or 0 where it is a divisor."""
    for field, value in param.ListFields():
        if isinstance(value, float) and not math.isfinite(value):
            raise SolverError(f"{field.name} must be a finite number, got {value}")
    for name in ("base_lr", "rampup_lr"):
        if getattr(param, name) < 0:
            raise SolverError(f"{name} must not be negative, got {getattr(param, name):g}")
    for name, least in _AT_LEAST.items():
        if getattr(param, name) < least:
            raise SolverError(f"{name} must be at least {least}, got {getattr(param, name)}")
    for count in param.test_iter:
        if count < 0:
            raise SolverError(f"test_iter must not be negative, got {count}")
        if count == 0 and param.test_compute_loss:
            raise SolverError("test_compute_loss needs a test_iter of at least 1, got 0")
