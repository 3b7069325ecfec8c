"""Where the class of a Python layer comes from: the user's module, or this package in place of a well-known one."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType

from minicaffe.core import alias, python_layers
from minicaffe.core.layer import Layer

log = logging.getLogger("minicaffe")

Importing = Callable[[], contextlib.AbstractContextManager]


def find_class(layer: Layer, module: str, name: str, importing: Importing) -> type:
    """Return the class `name` of a module that a Python layer names.

    importing: returns the context in which the module is imported.
    LayerError for a module that is missing or may not be imported, or has no such class.
    """
    if not module.strip(".") or module[0] == "." or not name:
        raise layer.error(f"python_param must name a module and a class in it, got '{module}' and '{name}'")
    if (own := _replacement(layer, module, name)) is not None:
        return own
    if not python_layers.rule().permits(module):
        raise layer.error(
            f"the module '{module}' that it names may not be imported here: allow it with --python-layers {module} "
            f"or minicaffe.allow_python_layers(['{module}'])"
        )
    alias.install()
    _add_working_directory()
    python_layers.announce(layer.name, module)
    found = _import(layer, module, importing)
    cls = getattr(found, name, None)
    if not isinstance(cls, type):
        raise layer.error(f"{_place(found)} has no class '{name}'")
    return cls


def _replacement(layer: Layer, module: str, name: str) -> type | None:
    """Return the class of this package for one of a well-known project; None where the user's module is found."""
    cls = python_layers.replacement(module, name)
    if cls is None:
        return None
    _add_working_directory()
    if python_layers.is_importable(module):
        return None
    text = "Python layer '%s': module '%s' is not on sys.path; %s of minicaffe takes its place"
    log.info(text, layer.name, module, name)
    return cls


def _import(layer: Layer, module: str, importing: Importing) -> ModuleType:
    try:
        with importing():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, an import in it failed
        package, _, missing = error.name.rpartition(".")
        why = f"{_place(sys.modules[package])} has no '{missing}'" if package else "add its folder to PYTHONPATH"
        raise layer.error(f"no module '{module}' on sys.path or in {os.getcwd()}: {why}") from error


def _add_working_directory() -> None:
    """Add the working directory to sys.path, at the end."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())


def _place(module: ModuleType) -> str:
    """Return a module's name with its file or folder."""
    return f"module '{module.__name__}' ({getattr(module, '__file__', None) or list(getattr(module, '__path__', []))})"
