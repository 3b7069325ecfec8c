"""Findings of `minicaffe check`, and the registry of the functions that find them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeVar

Level = Literal["error", "warning", "info"]
LEVELS: Sequence[Level] = ("error", "warning", "info")  #: the gravest first

Stage = Literal["static", "data", "batch"]
STAGES: Sequence[Stage] = ("static", "data", "batch")


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    level: "error": training fails or gives a useless net; "warning": probably not what is meant; "info": a fact.
    code: the name of the check; docs/check.md has a paragraph for each.
    where: the layer, blob, solver field or file.
    text: one sentence: what happens, and what to write instead.
    """

    level: Level
    code: str
    where: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields as a dict, as `--json` prints them."""
        return asdict(self)


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[str]]]:
    """Return each sentence once, as (the first finding with it, the places of all of them), in order."""
    groups: dict[tuple[str, str], tuple[Finding, list[str]]] = {}
    for each in findings:
        groups.setdefault((each.code, each.text), (each, []))[1].append(each.where)
    return list(groups.values())


Found = tuple[str, str]  #: where, text
Function = Callable[[Any], Iterator[Found]]
F = TypeVar("F", bound=Function)


class Check(NamedTuple):
    """A registered check: a function that yields (where, text) for each finding of its code."""

    stage: Stage
    code: str
    level: Level
    function: Function

    def run(self, subject: Any) -> Iterator[Finding]:
        """Yield the findings of this check.  subject: as the checks of its stage take it."""
        for where, text in self.function(subject):
            yield Finding(self.level, self.code, where, text)


_checks: dict[str, Check] = {}  # by code


def finds(stage: Stage, code: str, level: Level) -> Callable[[F], F]:
    """Function decorator that registers a check.

    stage: when it runs: "static" on the prototxts, "data" on the data sets, "batch" on one batch.
    code: a name of words with dashes between, unique.
    """

    def add(function: F) -> F:
        if code in _checks:
            raise ValueError(f"two checks have the code {code}")
        _checks[code] = Check(stage, code, level, function)
        return function

    return add


def checks_of(stage: Stage) -> list[Check]:
    """Return the checks of a stage, in the order in which they were registered."""
    return [check for check in _checks.values() if check.stage == stage]
