"""Settings of the Python layers: keys of param_str, with the defaults of py-faster-rcnn's config.py.

The original reads a few keys from param_str, a YAML text, and all others from a module `cfg`, which scripts change.
Here each setting is a key of param_str, under cfg's name in lower case: `cfg.TRAIN.FG_FRACTION` is `'fg_fraction'`.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from typing import Any, TypeVar

from minicaffe.core.layer import Layer
from minicaffe.errors import listed, nearest

S = TypeVar("S")

_WORDS = {"true": True, "false": False, "yes": True, "no": False, "null": None, "~": None}
_PLAIN = re.compile(r"[\w./~-]+")
_WHAT = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "a text",
    "int | None": "a whole number",
    "tuple[float, ...]": "a list of numbers",
    "tuple[str, ...]": "a list of texts",
}
_REFUSED = object()


def read_settings(kind: type[S], text: str, layer: Layer) -> S:
    """Return the settings of a param_str, one 'key': value in each line, or {'key': value, ...}.

    kind: a dataclass, whose fields are the keys.  layer: whose `error` is raised for a line that cannot be read, a key
    that is unknown or missing, and a value of another type.
    """
    given, fields = _parse(text, layer), {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # S is a dataclass
    values = {}
    for key, value in given.items():
        if key not in fields:
            raise layer.error(
                f"param_str has an unknown key '{key}'{nearest(key, fields)}; known are {listed(fields, 40)}"
            )
        values[key] = _converted(value, str(fields[key].type))
        if values[key] is _REFUSED:
            raise layer.error(f"'{key}' of param_str must be {_WHAT[str(fields[key].type)]}, got {value!r}")
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise layer.error(f"param_str must give '{name}', for example \"'{name}': 16\", got '{text}'")
    return kind(**values)


def _parse(text: str, layer: Layer) -> dict[str, Any]:
    """Return the keys and values of a param_str."""
    text = text.replace("!!python/tuple", "").strip()
    if text.startswith("{"):
        found = _literal(text)
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise layer.error(f"param_str must be {{'key': value, ...}}, got '{text}'")
        return found
    values = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        key, value = key.strip().strip("'\""), value.strip()
        found = _WORDS.get(value.lower(), _literal(value))
        if found is _REFUSED and _PLAIN.fullmatch(value):
            found = value
        if not colon or not key or found is _REFUSED:
            raise layer.error(f"each line of param_str must be 'key': value, got '{line}'")
        values[key] = found
    return values


def _literal(text: str) -> Any:
    """Return the value of a Python literal; _REFUSED for anything else."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _REFUSED


def _converted(value: Any, kind: str) -> Any:
    """Return a value as a field of this type has it; _REFUSED where it is none."""
    if kind.startswith("tuple"):
        each = kind[len("tuple[") : -len(", ...]")]
        items = [_converted(item, each) for item in (value if isinstance(value, (list, tuple)) else [value])]
        return _REFUSED if _REFUSED in items or not items else tuple(items)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    types = {"int": int, "int | None": int, "float": float, "bool": bool, "str": str}
    right = type(value) is types[kind] or value is None and "None" in kind
    return value if right else _REFUSED
