"""Solvers by the `type` of a SolverParameter."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from minicaffe.errors import SolverError, nearest
from minicaffe.solvers import nets
from minicaffe.solvers.base import Solver

_registry: dict[str, type[Solver]] = {}

S = TypeVar("S", bound=Solver)


def register_solver(name: str) -> Callable[[type[S]], type[S]]:
    """Class decorator that registers a solver for `type: "name"` in prototxts."""

    def add(cls: type[S]) -> type[S]:
        cls.type = name
        _registry[name] = cls
        return cls

    return add


def get_solver(param: str | os.PathLike | Any) -> Solver:
    """Return a solver of the class registered for the `type` of a SolverParameter (default "SGD").

    param: as for `Solver`.  Raises SolverError for an unknown type, and what `Solver` raises.
    """
    source = nets.load(param)
    return solver_class(source.param.type)(source)


def solver_type_list() -> list[str]:
    """Return all registered solver types, sorted."""
    return sorted(_registry)


def solver_class(kind: str) -> type[Solver]:
    """Return the class registered for a `type`; SolverError for an unknown one."""
    if kind not in _registry:
        known = ", ".join(solver_type_list())
        raise SolverError(f'unknown solver type "{kind}"{nearest(kind, _registry)}: known are {known}')
    return _registry[kind]
