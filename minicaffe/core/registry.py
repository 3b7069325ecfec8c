"""Layers by their prototxt type, and the variants of them that engines have."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from google.protobuf.message import Message

from minicaffe import forks
from minicaffe.core.engine import Engine, engines
from minicaffe.core.layer import Layer
from minicaffe.core.settings import settings, variant_names
from minicaffe.errors import LayerError, nearest
from minicaffe.proto.elsewhere import TYPE_OWNERS

OWN = "CAFFE"  #: in place of an engine's name: the code that a type's own file has

_registry: dict[str, dict[str, type[Layer]]] = {}  # written to when modules of layers are imported
_packages: dict[str, list[str]] = {}  # by engine's name, modules to import before its layers are looked up
_loading = forks.renewed(threading.RLock())

L = TypeVar("L", bound=Layer)


def register(type_name: str, engine: str = OWN) -> Callable[[type[L]], type[L]]:
    """Class decorator: the layer of this prototxt type, or an engine's variant of it.

    Raises LayerError if there is one already.
    """

    def add(cls: type[L]) -> type[L]:
        variants = _registry.setdefault(type_name, {})
        if engine in variants:
            raise LayerError(f"layer type {type_name} (engine {engine}) is registered twice")
        cls.type, cls.engine = type_name, engine
        variants[engine] = cls
        return cls

    return add


def add_package(module: str, engine: str = OWN) -> None:
    """Have a module, which registers layers or what an engine computes as one, imported when it is first needed."""
    _packages.setdefault(engine, []).append(module)


def load(engine: str = OWN) -> None:
    """Import the modules that `add_package` has named for an engine."""
    if _packages.get(engine):
        with _loading:
            for module in _packages.get(engine, ()):
                importlib.import_module(module)
            _packages[engine] = []


def layer_type_list() -> list[str]:
    """All known layer types, sorted."""
    load()
    return sorted(_registry)


def variants_of(engine: str) -> list[type[Layer]]:
    """The layers that an engine has variants of, sorted by type."""
    load()
    load(engine)
    return [variants[engine] for _, variants in sorted(_registry.items()) if engine in variants]


def layer_class(type_name: str, engine: str = OWN, name: str = "") -> type[Layer]:
    """The class for a type and engine; our own code where the engine has none.

    An unknown type raises `LayerError` with the fork that has it, or else the nearest and all known names.
    """
    load()
    load(engine)
    try:
        variants = _registry[type_name]
    except KeyError:
        sentence = f"layer '{name}' has the unknown type \"{type_name}\""
        if owner := TYPE_OWNERS.get(type_name):
            raise LayerError(f"{sentence}, it belongs to {owner}") from None
        hint = nearest(type_name, _registry)
        known = ", ".join(sorted(_registry))
        raise LayerError(f"{sentence}{hint}; known types: {known}") from None
    return variants.get(engine) or variants[OWN]


def facts_of(type_name: str) -> type[Layer]:
    """Return the class that states the facts about a type: `Layer`, with its defaults, for an unknown type."""
    load()
    return _registry.get(type_name, {}).get(OWN, Layer)


def create_layer(layer_param, phase: int | None = None, dtype: np.typing.DTypeLike = np.float32) -> Layer:
    """A layer of the type, and with the engine, that its LayerParameter and `set_engine` ask for."""
    own = type(layer_param)()
    own.CopyFrom(layer_param)  # layers may complete their parameters: the net keeps the original
    engine = choose_engine(own, np.dtype(dtype))
    return layer_class(own.type, engine, own.name)(own, phase, dtype)


def choose_engine(layer_param, dtype: np.dtype) -> str:
    """The name of the engine whose variant a layer is, or "CAFFE".

    `set_engine` comes first, then the prototxt's `engine` field; else, and where they name an engine of the other
    mode, the default engine of this mode.
    """
    wanted = settings.variants
    if wanted == "DEFAULT":
        wanted = next(_engine_fields(layer_param), "DEFAULT")
    if wanted == OWN:
        return OWN
    candidates = [engine for engine in engines() if engine.base is settings.engine]
    named = [engine for engine in candidates if engine.name == wanted]
    usable = (engine for engine in named or candidates if (named or engine.default) and engine.takes(np.dtype(dtype)))
    return next((engine.name for engine in usable), OWN)


def _engine_fields(layer_param) -> Iterator[str]:
    """The `engine` values that are set, as names: the layer's own string first, then its parameter messages' enums."""
    own = layer_param.engine.partition(":")[0].upper()  # Intel's Caffe may add a list of engines behind a colon
    own = next((engine.name for engine in _variant_engines() if own in engine.aliases), own)
    known = sorted([OWN, *variant_names()])
    if own not in ("", "DEFAULT", *known):
        names = f"{', '.join(known[:-1])} or {known[-1]}"
        raise LayerError(
            f"{layer_param.type} layer '{layer_param.name}': engine must be {names}, got \"{layer_param.engine}\""
        )
    if own not in ("", "DEFAULT"):
        yield own
    for field, value in layer_param.ListFields():
        if isinstance(value, Message) and "engine" in field.message_type.fields_by_name:
            name = field.message_type.fields_by_name["engine"].enum_type.values_by_number[value.engine].name
            if value.HasField("engine") and name != "DEFAULT":
                yield name


def _variant_engines() -> list[Engine]:
    return [engine for engine in engines() if engine.base is not None]
