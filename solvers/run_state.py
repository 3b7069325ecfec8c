"""The content of run states: what is expected in the JSON, checked before any of it is used."""

from __future__ import annotations

import json
from typing import Any

from minicaffe.errors import SnapshotError
from minicaffe.saved import shown


def parse(content: bytes, path: str) -> dict[str, Any]:
    """Return the dict in a run state: "nets", "losses" and "observers".

    nets: for each net a list of (name of a layer, its state, a dict); the layers check their states themselves.
    losses: a list of numbers.  observers: a dict.
    path: the file, for the SnapshotError that is raised for anything else.
    """
    try:
        run = json.loads(content)
    except (ValueError, RecursionError):  # RecursionError: brackets nested too deep
        run = None
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
