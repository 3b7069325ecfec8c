"""The name `caffe` as an alias of `minicaffe`: `caffe.io` is `minicaffe.io`, the same module object.

A module that minicaffe does not have, such as SSD's `caffe.model_libs`, is that of a folder `caffe` on sys.path.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType

# pycaffe's compiled module and its Python wrapper: both are aliases of minicaffe.
_OWN = {"caffe._caffe": "minicaffe", "caffe.pycaffe": "minicaffe"}


class AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that resolves `caffe` and `caffe.x` to `minicaffe` and `minicaffe.x`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of an alias, or of a module in a folder `caffe` on sys.path; None for any other name."""
        if fullname != "caffe" and not fullname.startswith("caffe."):
            return None
        try:
            module = importlib.import_module(_own_name(fullname))
        except ModuleNotFoundError as error:
            if f"{_own_name(fullname)}.".startswith(f"{error.name}."):
                return _in_a_checkout(fullname)
            raise
        return importlib.machinery.ModuleSpec(fullname, self, is_package=hasattr(module, "__path__"))

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return minicaffe's module; its own spec is saved in `spec.loader_state`."""
        module = importlib.import_module(_own_name(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which the import system has replaced; the code has run already."""
        if module.__spec__ is not None and module.__spec__.loader is self:
            module.__spec__ = module.__spec__.loader_state


def _in_a_checkout(fullname: str) -> importlib.machinery.ModuleSpec | None:
    """Return the spec of `caffe.x` in the folders `caffe` on sys.path, such as python/caffe; None if it is in none."""
    parent, _, _ = fullname.rpartition(".")
    folders = [os.path.join(folder, *parent.split(".")) for folder in sys.path]
    return importlib.machinery.PathFinder.find_spec(fullname, folders)


def _own_name(fullname: str) -> str:
    return _OWN.get(fullname, "mini" + fullname)


def install() -> None:
    """Resolve `import caffe` to minicaffe from now on, unless another `caffe` has been imported already."""
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, AliasFinder())
    sys.modules.setdefault("caffe", importlib.import_module(_own_name("caffe")))
