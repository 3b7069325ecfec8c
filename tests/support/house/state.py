"""State that belongs to a module, and so to the whole process: what is assigned by `global`, changed, or cached."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from house.imports import SCRIPTS, modules

CONTAINERS = ("dict", "list", "set", "bytearray", "defaultdict", "Counter", "deque", "OrderedDict", "WeakSet")
CONTAINERS += ("WeakKeyDictionary", "WeakValueDictionary")
#: methods that change a container
CHANGES = ("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update")


@lru_cache(maxsize=1)
def state_of_modules() -> frozenset[str]:
    """`module.name` of all state in the package; `module.function()` where a function's results are cached."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    package = {name: text for name, text in texts.items() if name.partition(".")[0] not in SCRIPTS}
    return frozenset(f"{name}.{one}" for name, text in package.items() for one in state_in(text))


def state_in(text: str) -> set[str]:
    """The names of state in the text of a module."""
    tree = ast.parse(text)
    by_global = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    cached = {f"{node.name}()" for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _is_cached(node)}
    return by_global | cached | (set(_containers(tree.body)) & set(_changed(tree)))


def _is_cached(function: ast.FunctionDef) -> bool:
    """Whether a function's results are kept for the life of the process: one of functools' caches."""
    names = [ast.unparse(each).partition("(")[0].rpartition(".")[2] for each in function.decorator_list]
    return bool({"cache", "lru_cache"} & set(names))


def _containers(body: list[ast.stmt]) -> Iterator[str]:
    """The names that are bound to containers when a module is imported, in its classes as well."""
    for node in body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name) and _is_one(node.value))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_one(node.value):
            yield node.target.id
        elif isinstance(node, (ast.ClassDef, ast.If, ast.Try, ast.With)):
            yield from _containers(node.body)


def _is_one(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in CONTAINERS
    return isinstance(value, (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp))


def _changed(tree: ast.AST) -> Iterator[str]:
    """The names, or attributes of classes and objects, of what functions change."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield _name(node.value)
        elif isinstance(node, ast.AugAssign):
            yield _name(node.target)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            yield _name(node.func.value)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
