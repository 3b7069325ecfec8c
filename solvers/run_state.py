"""Run states: what a resumed run needs beyond weights and history, in types of JSON.

A run state is that of one process, or that of the root of several ranks, which has those of the others in "ranks".
Data readers of all ranks are at one position, as they read shares of one stream: another number of ranks shares what
comes after it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from minicaffe.core.matching import numbered
from minicaffe.core.settings import settings
from minicaffe.errors import SnapshotError
from minicaffe.saved import shown

log = logging.getLogger("minicaffe")


def of(solver) -> dict[str, Any]:
    """Return what a run state holds, in types of JSON: states of layers, of observers, and the averaged losses."""
    nets = [solver.net, *solver.test_nets]
    return {
        "nets": [[(layer.name, layer.state()) for layer in net.layers] for net in nets],
        "losses": list(solver.losses),
        "observers": {type(each).__name__: each.run_state() for each in _observers_with_state(solver)},
    }


def _observers_with_state(solver) -> list[Any]:
    return [each for each in solver.observers if hasattr(each, "run_state") and hasattr(each, "load_run_state")]


def joined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run state that contains those of all ranks, given in their order; that of one rank is unchanged."""
    root, *others = runs
    return {**root, "ranks": others} if others else root


def _size(run: dict[str, Any]) -> int:
    """The number of ranks in a run state."""
    return 1 + len(run.get("ranks", []))


def path_beside(path: str) -> str:
    """Return the path of the run state that belongs to a solver state."""
    return path.removesuffix(".h5").removesuffix(".solverstate") + ".runstate"


# -- restoring ---------------------------------------------------------------------------------------------------------


def load(solver, run: dict[str, Any], path: str) -> None:
    """Restore what `of` returned; {} restores nothing, and ends the average of the losses.

    path: the solver state beside it, for messages.
    SnapshotError for a state that does not fit a layer or an observer.
    """
    for net, layers in zip([solver.net, *solver.test_nets], run.get("nets", [])):
        _load_layers(net, layers, path)
    solver.losses = list(run.get("losses", []))
    for observer in _observers_with_state(solver):
        state = run.get("observers", {}).get(type(observer).__name__)
        if state is not None:
            observer.load_run_state(state)


def load_share(solver, run: dict[str, Any], path: str) -> None:
    """Restore this rank's part of a run state of all ranks; {} as for `load`.

    A rank that the run state lacks gets what all ranks have in common: the positions of data readers.
    path, errors: as for `load`.
    """
    rank = settings.solver_rank
    if run and rank >= _size(run):
        _load_layers(solver.net, run["nets"][0] if run["nets"] else [], path, in_common=True)
        run = {}
    load(solver, run["ranks"][rank - 1] if run and rank else run, path)


def _load_layers(net, saved: Sequence[tuple[str, dict]], path: str, in_common: bool = False) -> None:
    """Restore the states of layers, given with their names; in_common: only what all ranks have in common."""
    states = dict(zip(numbered(name for name, _ in saved), (state for _, state in saved)))
    for layer, key in zip(net.layers, numbered(layer.name for layer in net.layers)):
        if key in states:
            try:
                (layer.load_common_state if in_common else layer.load_state)(states[key])
            except SnapshotError as error:
                raise SnapshotError(f"'{path_beside(path)}': layer '{layer.name}': {error}") from None


def report_size(run: dict[str, Any], path: str) -> None:
    """Log a line if a run state is not one of as many ranks as train now; path: the solver state beside it."""
    saved, size = _size(run), settings.solver_count
    if run and saved != size:
        log.info(
            "%s has the states of %d rank%s, this training has %d: the data continue where all ranks had read to%s",
            path_beside(path), saved, "s" if saved > 1 else "", size,
            f"; the random numbers of rank {saved} and above start anew" if size > saved else "",
        )  # fmt: skip


# -- reading -----------------------------------------------------------------------------------------------------------


def parse(content: bytes, path: str) -> dict[str, Any]:
    """Return the dict in a run state: "nets", "losses", "observers" and "ranks".

    nets: for each net a list of (name of a layer, its state, a dict); the layers check their states themselves.
    losses: a list of numbers.  observers: a dict.  ranks: the first three of each rank from 1 on.
    path: the file, for the SnapshotError that is raised for anything else.
    """
    try:
        run = json.loads(content)
    except (ValueError, RecursionError):  # RecursionError: brackets nested too deep
        run = None
    ranks = run.get("ranks", []) if isinstance(run, dict) else []
    if not isinstance(ranks, list):
        raise SnapshotError(f"'{path}': ranks must be a list of run states, got {shown(ranks)}")
    return {**_of_rank(run, path), "ranks": [_of_rank(each, path) for each in ranks]}


def _of_rank(run: Any, path: str) -> dict[str, Any]:
    if not isinstance(run, dict) or not isinstance(run.get("nets"), list):
        raise SnapshotError(f"'{path}' is truncated, or no run state: remove it to start anew")
    losses, observers = run.get("losses", []), run.get("observers", {})
    if not isinstance(losses, list) or not all(_is_number(each) for each in losses):
        raise SnapshotError(f"'{path}': losses must be a list of numbers, got {shown(losses)}")
    if not isinstance(observers, dict):
        raise SnapshotError(f"'{path}': observers must be a dict, got {shown(observers)}")
    return {"nets": [_layers(each, path) for each in run["nets"]], "losses": losses, "observers": observers}


def _layers(saved: Any, path: str) -> list[tuple[str, dict]]:
    """Return the (name, state) of the layers of a net; older run states contain a dict."""
    pairs = list(saved.items()) if isinstance(saved, dict) else saved
    if not isinstance(pairs, list):
        raise SnapshotError(f"'{path}': nets must be lists of layers, got {shown(pairs)}")
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise SnapshotError(f"'{path}': nets must be lists of [name of a layer, state], got {shown(pair)}")
        if not isinstance(pair[1], dict):
            raise SnapshotError(f"'{path}': the state of layer '{pair[0]}' must be a dict, got {shown(pair[1])}")
    return [(name, state) for name, state in pairs]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64)
