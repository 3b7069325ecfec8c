"""Registry of layer classes by prototxt type, with variants for engines."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from minicaffe import forks
from minicaffe.core import precision
from minicaffe.core.engine import Engine, engines, variant_engines
from minicaffe.core.layer import Layer
from minicaffe.core.settings import settings
from minicaffe.errors import LayerError, nearest
from minicaffe.proto.caffe_pb2 import FLOAT, LayerParameter
from minicaffe.proto.elsewhere import TYPE_OWNERS

log = logging.getLogger("minicaffe")

OWN = "CAFFE"  #: the engine name of the code in a type's own file in layers/

_registry: dict[str, dict[str, type[Layer]]] = {}  # {type: {engine: class}}, filled when layer modules are imported
_packages: dict[str, list[str]] = {}  # {engine: modules still to import before its layers are looked up}
_loading = forks.renewed(threading.RLock())

L = TypeVar("L", bound=Layer)


def register(type_name: str, engine: str = OWN) -> Callable[[type[L]], type[L]]:
    """Class decorator that registers a layer class for a prototxt type, or an engine's variant of it.

    type_name: `type` in prototxts.  engine: name of the engine; "CAFFE" (default) for the type's own class.
    Raises LayerError if the type already has a class for that engine.
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
    """Add a module that is imported when layers of the engine are first looked up; it registers layers or fusions."""
    _packages.setdefault(engine, []).append(module)


def load(engine: str = OWN) -> None:
    """Import the modules added for an engine by `add_package`, once."""
    if _packages.get(engine):
        with _loading:
            for module in _packages.get(engine, ()):
                importlib.import_module(module)
            _packages[engine] = []


def layer_type_list() -> list[str]:
    """Return all registered layer types, sorted."""
    load()
    return sorted(_registry)


def variants_of(engine: str) -> list[type[Layer]]:
    """Return the variants of an engine, sorted by layer type."""
    load()
    load(engine)
    return [variants[engine] for _, variants in sorted(_registry.items()) if engine in variants]


def layer_class(type_name: str, engine: str = OWN, name: str = "") -> type[Layer]:
    """Return the class for a type and engine, or the type's own class if the engine has no variant.

    name: name of the layer, for errors.
    Raises `LayerError` for an unknown type, with the Caffe fork that has it, or with the nearest known types.
    """
    load()
    load(engine)
    try:
        variants = _registry[type_name]
    except KeyError:
        raise LayerError(f"layer '{name}' has the {unknown_type(type_name)}") from None
    return variants.get(engine) or variants[OWN]


_TO_DO = "; register a layer of your own under this name, or put a Python layer in its place (docs/write_a_layer.md)"


def unknown_type(type_name: str) -> str:
    """Return 'unknown type "x"', with the Caffe fork that has it and what to do, or the nearest types; "" if known."""
    load()
    if type_name in _registry:
        return ""
    sentence = f'unknown type "{type_name}"'
    if owner := TYPE_OWNERS.get(type_name):
        return f"{sentence}, it belongs to {owner}{_TO_DO}"
    return sentence + nearest(type_name, _registry, limit=3)


def facts_of(type_name: str) -> type[Layer]:
    """Return the class whose attributes describe a layer type; `Layer`, with its defaults, for an unknown type."""
    load()
    return _registry.get(type_name, {}).get(OWN, Layer)


def create_layer(
    layer_param: LayerParameter,
    phase: int | None = None,
    dtype: np.typing.DTypeLike = np.float32,
    default_type: int = FLOAT,
) -> Layer:
    """Create the layer of a LayerParameter, of the class for its type and for the engine from `choose_engine`.

    Its precision is from `precision.choose`.

    phase: TRAIN or TEST; None (default): that of the LayerParameter.  dtype: dtype of its blobs (default float32).
    default_type: the net's default_forward_type (default FLOAT).
    Raises LayerError for an unknown type or engine.
    """
    own = LayerParameter()
    own.CopyFrom(layer_param)  # layers may complete their parameters: the net keeps the original
    engine = choose_engine(own, np.dtype(dtype))
    layer = layer_class(own.type, engine, own.name)(own, phase, dtype)
    layer.precision = precision.choose(own, layer.engine, default_type)
    return layer


def choose_engine(layer_param: LayerParameter, dtype: np.dtype) -> str:
    """Return the name of the engine whose variant is used for a layer, or "CAFFE" for the type's own class.

    `set_engine` takes precedence over the prototxt's `engine` field.  If neither names an engine, or the engine is of
    the other mode, the default engine of this mode is used.
    """
    return _choice(layer_param, np.dtype(dtype))[0]


def log_replaced(layers: Iterable[LayerParameter], dtype: np.dtype) -> None:
    """Log, in one line, which engines cannot compute layers that they were chosen for, why, and which compute instead.

    These are engines named by `set_engine` or by prototxts, and default ones, with variants of those layers.  A
    handler that `glog.write_once` has prepared writes the line once, for all nets of a run.
    """
    sentences: dict[str, None] = {}  # in order, each once
    for layer_param in layers:
        used, skipped = _choice(layer_param, dtype)
        name = f"{used} ({settings.engine.name})" if used == OWN else used
        for engine, why in skipped:
            load(engine.name)
            if engine.name in _registry.get(layer_param.type, {}):
                sentences[f"{name} computes in place of {engine.name}: {why}"] = None
    if sentences:
        text = "; ".join(sentences)
        log.info("Engine %s", text, extra={"once": text})


def _choice(layer_param: LayerParameter, dtype: np.dtype) -> tuple[str, list[tuple[Engine, str]]]:
    """Return the name from `choose_engine`, and the preferred engines that cannot be used here, with the reasons."""
    wanted = settings.variants
    if wanted == "DEFAULT":
        wanted = next(_engine_fields(layer_param), "DEFAULT")
    if wanted == OWN:
        return OWN, []
    named = [engine for engine in engines() if engine.name == wanted]
    skipped = [(engine, f"it is for {engine.mode} mode") for engine in named if engine.base is not settings.engine]
    candidates = [engine for engine in engines() if engine.base is settings.engine]
    for engine in [engine for engine in candidates if engine in named] or candidates:
        if engine in named or engine.default:
            if engine.takes(dtype):
                return engine.name, skipped
            if reason := engine.reason():
                skipped.append((engine, reason))
    return OWN, skipped


def _engine_fields(layer_param: LayerParameter) -> Iterator[str]:
    """Yield the names of the `engine` values that are set: the layer's own string, then the enums of its messages."""
    own = layer_param.engine.partition(":")[0].upper()  # Intel's Caffe allows a list of engines after a colon
    own = next((engine.name for engine in variant_engines() if own in engine.aliases), own)
    known = sorted([OWN, *(engine.name for engine in variant_engines())])
    if own not in ("", "DEFAULT", *known):
        names = f"{', '.join(known[:-1])} or {known[-1]}"
        raise LayerError(
            f"{layer_param.type} layer '{layer_param.name}': engine must be {names}, got \"{layer_param.engine}\""
        )
    if own not in ("", "DEFAULT"):
        yield own
    for field, value in layer_param.ListFields():
        fields = field.message_type.fields_by_name if field.message_type else {}
        values = fields["engine"].enum_type if "engine" in fields else None
        if values and value.HasField("engine"):
            name = values.values_by_number[value.engine].name
            if name != "DEFAULT":
                yield name
