"""An import hook that changes modules when they are imported, and makes some that do not exist."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

Change = Callable[[ModuleType], None]


def install_changes(changes: Mapping[str, Change], stand_ins: Collection[str]) -> None:
    """Apply `changes` to modules, by name, after their import; at once to those that are imported already.

    stand_ins: the names of modules that are made, empty, if they do not exist; one before another, if it contains it.
    No effect if changes have been installed before.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder(changes, stand_ins))
    for name, change in changes.items():
        if name in sys.modules:
            change(sys.modules[name])


class _Finder(importlib.abc.MetaPathFinder):
    """Finder of the modules that are changed or made; it leaves the search for them to the finders after it."""

    def __init__(self, changes: Mapping[str, Change], stand_ins: Collection[str]) -> None:
        self._changes, self._stand_ins = dict(changes), frozenset(stand_ins)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module that is changed or made; None for others."""
        if fullname not in self._changes and fullname not in self._stand_ins:
            return None
        spec = self._found(fullname, path, target)
        if spec is None and fullname in self._stand_ins:
            has_children = any(name.startswith(f"{fullname}.") for name in self._stand_ins)
            return importlib.machinery.ModuleSpec(
                fullname, _Loader(None, self._change(fullname)), is_package=has_children
            )
        if spec is not None and spec.loader is not None and fullname in self._changes:
            spec.loader = _Loader(spec.loader, self._change(fullname))
        return spec

    def _found(self, fullname: str, path: Any, target: Any) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None

    def _change(self, name: str) -> Change:
        return self._changes.get(name, lambda module: None)


class _Loader(importlib.abc.Loader):
    """Load a module by another loader (None: make it, empty), then change it."""

    def __init__(self, loader: Any, change: Change) -> None:
        self._loader, self._apply = loader, change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Return what the other loader creates."""
        return self._loader.create_module(spec) if self._loader is not None else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, then the change."""
        if self._loader is not None:
            self._loader.exec_module(module)
        self._apply(module)

    def __getattr__(self, name: str) -> Any:
        """Return what else a loader may have, such as `get_data`, from the other loader."""
        return getattr(self.__dict__.get("_loader"), name)
