"""What the package offers to its users, which is what `minicaffe.__all__` and docs/api.md name, is documented and
annotated: every function, method and property has a docstring, its own or that of the method that it overrides, and a
type for each argument and for what it returns."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import minicaffe

API = Path(__file__).resolve().parent.parent.parent / "docs" / "api.md"
DIRECTIVE = re.compile(r"^\.\. auto(module|class|function):: ([\w.]+)$(?:\n +:members:(.*)$)?", re.MULTILINE)


def offered():
    """{qualified name: function or class}"""
    found = {}
    for name in minicaffe.__all__:
        found |= _functions_and_classes(getattr(minicaffe, name))
    for kind, name, listed in DIRECTIVE.findall(API.read_text(encoding="utf-8")):
        if kind == "module":
            module = importlib.import_module(name)
            found |= _functions_and_classes(module)
            for member in listed.split(",") if listed.strip() else ():
                found |= _functions_and_classes(getattr(module, member.strip()))
        else:
            module, _, attribute = name.rpartition(".")
            found |= _functions_and_classes(getattr(importlib.import_module(module), attribute))
    return found


def _functions_and_classes(value):
    """A function or class itself; of a module those that are defined there."""
    if inspect.ismodule(value):
        own = [one for name, one in vars(value).items() if not name.startswith("_")]
        return {_name(one): one for one in own if getattr(one, "__module__", None) == value.__name__ and _fits(one)}
    return {_name(value): value} if _fits(value) else {}


def _fits(value):
    return inspect.isfunction(value) or inspect.isclass(value)


def _name(value):
    return f"{value.__module__}.{value.__qualname__}"


def members(cls):
    """(name, functions, docstring) of a class's public methods and properties, inherited ones included."""
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        value = getattr(value, "__func__", value)  # of a class or static method
        if name == "__init__" and inspect.isfunction(value) and not hasattr(cls, "__dataclass_fields__"):
            yield name, [value], inspect.getdoc(cls)
        elif not name.startswith("_") and isinstance(value, property):
            yield name, [function for function in (value.fget, value.fset) if function], inspect.getdoc(value)
        elif not name.startswith("_") and inspect.isfunction(value):
            yield name, [value], inspect.getdoc(getattr(cls, name))


def without_types(function):
    """The arguments that have no type, `return` among them."""
    signature = inspect.signature(function)
    names = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
    return [*names, "return"] if signature.return_annotation is signature.empty else names


OFFERED = offered()


@pytest.mark.parametrize("name", OFFERED)
def test_has_docstrings(name):
    assert inspect.getdoc(OFFERED[name])
    if inspect.isclass(OFFERED[name]):
        assert not [member for member, _, doc in members(OFFERED[name]) if not doc]


@pytest.mark.parametrize("name", OFFERED)
def test_has_types(name):
    found = [("", [OFFERED[name]], "")] if inspect.isfunction(OFFERED[name]) else members(OFFERED[name])
    missing = {member: [without_types(function) for function in functions] for member, functions, _ in found}
    assert not {member: lists for member, lists in missing.items() if any(lists)}


def test_what_users_call_is_among_them():
    for name in ("minicaffe.core.net.Net", "minicaffe.proto.reading.parse_text", "minicaffe.io.load_image"):
        assert name in OFFERED
    assert {"forward", "blobs", "reshape", "__init__"} <= {member for member, _, _ in members(minicaffe.Net)}
