"""`minicaffe.check`: the checks of the stages, one stage after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minicaffe.checks.finding import LEVELS, STAGES, Finding, Level, Stage, checks_of
from minicaffe.checks.subject import Subject
from minicaffe.checks.unknown import unknown_types, unreadable
from minicaffe.core import random
from minicaffe.core.settings import restored
from minicaffe.errors import (
    DataError,
    DeviceError,
    MinicaffeError,
    PrototxtError,
    SnapshotError,
    SolverError,
    UsageError,
)
from minicaffe.glog import muted

#: the codes of what cannot be read or built, by the exception; the first that fits counts
FAILURES: Sequence[tuple[type[MinicaffeError], str]] = (
    (PrototxtError, "prototxt-invalid"),
    (SolverError, "solver-invalid"),
    (DataError, "data-unreadable"),
    (SnapshotError, "weights-invalid"),
    (MinicaffeError, "net-invalid"),
)


def check(
    solver: Any, weights: Sequence[str] = (), deploy: Any = None, stages: Sequence[Stage] = STAGES, snapshot: str = ""
) -> list[Finding]:
    """Return what is wrong with a solver and its nets, before training: the gravest findings first.

    solver: path of a solver prototxt, or a SolverParameter.
    weights: paths of .caffemodel or .caffemodel.h5 files to start from (default: the solver's own `weights`).
    deploy: the net that will be used after training, which is compared with the train net: path of a prototxt, or a
        NetParameter; None (default): none.
    stages: "static" reads prototxts and weights, "data" reads the data sets of data layers, and "batch" builds the nets
        and runs one batch, if no stage before has found an error.  Default: all.
    snapshot: path of a solver state from which training is resumed, with the weights that it names in place of
        `weights`; "" (default): none.

    What cannot be read or built is a finding as well, with the sentence of its exception.  Nothing is written, and
    settings and random seeds of this thread stay as they are.
    Raises UsageError for an unknown stage, DeviceError for a device that is not available.
    """
    for stage in stages:
        if stage not in STAGES:
            raise UsageError(f"check: expected stages of {', '.join(STAGES)}, got '{stage}'")
    found: list[Finding] = []
    try:
        with muted():
            start, weights = _resumed(snapshot) if snapshot else (0, weights)
            subject = Subject(solver, weights, deploy, start=start)
    except MinicaffeError as error:
        with muted():
            listed = [finding for what in (solver, deploy) for finding in unreadable(what)]
        return listed or [_failure(error, str(solver) if isinstance(solver, str) else "solver")]
    with restored(), random.seeded(max(subject.param.random_seed, 0)):
        for stage in STAGES:
            is_error = any(finding.level == "error" for finding in found)
            if stage in stages and not (stage == "batch" and is_error):
                found += _found_in(stage, subject)
    return _sorted(found)


def _resumed(snapshot: str) -> tuple[int, list[str]]:
    """Return the iteration of a solver state, and the paths of its weights; SnapshotError if it cannot be read."""
    from minicaffe.solvers.snapshot import weights_of
    from minicaffe.solvers.stored_state import read

    stored = read(snapshot)
    path = weights_of(stored, snapshot)
    return stored.iter, [path] if path else []


def before_training(source: Any, snapshot: str = "", start: int = 0) -> list[Finding]:
    """Return the findings of the static stage, without those that have to read files of weights.

    source: as `solver` of `check`.
    snapshot: path of the solver state from which training is resumed, with all parameters; "" (default): none.
    start: its iteration (default 0).
    """
    try:
        with muted():
            subject = Subject(source, [snapshot] if snapshot else (), reads_weights=False, start=start)
    except MinicaffeError as error:
        return [_failure(error, "solver")]
    return _sorted(list(_found_in("static", subject)))


def _sorted(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def codes() -> dict[str, Level]:
    """Return the codes of all findings that `check` can return, with their levels."""
    for stage in STAGES:
        _import(stage)
    failures: dict[str, Level] = {code: "error" for _, code in FAILURES}
    return failures | {each.code: each.level for stage in STAGES for each in checks_of(stage)}


def _found_in(stage: Stage, subject: Subject) -> Iterator[Finding]:
    """Yield the findings of a stage; it ends at what cannot be read or built."""
    make = _import(stage)
    if stage == "static" and (found := _of_unknown_types(subject)):
        yield from found
        return
    try:
        own = make(subject)
        for each in checks_of(stage):
            yield from each.run(own)
    except (DeviceError, UsageError):
        raise
    except MinicaffeError as error:
        yield _failure(error, f"net '{subject.train.param.name}'")


def _of_unknown_types(subject: Subject) -> list[Finding]:
    """Return the layers of unknown types, each once for all nets; the other static checks are for known ones."""
    found = [finding for net in subject.nets() for finding in unknown_types(net.param.layer)]
    return list(dict.fromkeys(found))


def _import(stage: Stage) -> Any:
    """Import the checks of a stage; return the function that makes their subject from a Subject."""
    if stage == "static":
        from minicaffe.checks import static

        return static.prepared
    if stage == "data":
        from minicaffe.checks import data

        return data.DataSets
    from minicaffe.checks import batch

    return batch.FirstBatch


def _failure(error: MinicaffeError, where: str) -> Finding:
    code = next(code for kind, code in FAILURES if isinstance(error, kind))
    return Finding("error", code, where, str(error))
