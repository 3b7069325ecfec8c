"""Layers of a net that an engine computes as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicaffe.core.engine import Engine, engines
from minicaffe.core.registry import OWN, load

_finders: dict[str, Callable[[Any], list]] = {}


def add_finder(engine: str, find: Callable[[Any], list]) -> None:
    """Register the function that finds an engine's chains in a net."""
    _finders[engine] = find


def find_chains(net: Any, runner: Engine) -> list:
    """The chains of a net, in order, that engine `runner` and those based on it compute as one."""
    chains = []
    for engine in engines():
        if engine is runner or (engine.base is runner and any(layer.engine == engine.name for layer in net.layers)):
            load(engine.name)
            if engine.name in _finders and engine.name != OWN:
                chains += _finders[engine.name](net)
    return chains
