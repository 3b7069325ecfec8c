"""The content of run states: what is expected in the JSON, checked before any of it is used.

A run state is that of one process, or of the root of several ranks; the latter has those of the others in "ranks".
"""

from __future__ import annotations

import json
from typing import Any

from minicaffe.errors import SnapshotError
from minicaffe.saved import shown


def joined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run state that contains those of all ranks, given in their order; that of one rank is unchanged."""
    root, *others = runs
    return {**root, "ranks": others} if others else root


def size(run: dict[str, Any]) -> int:
    """The number of ranks in a run state."""
    return 1 + len(run.get("ranks", []))


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
