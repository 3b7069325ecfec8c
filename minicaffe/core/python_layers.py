"""Which modules Python layers may import: one rule for the process, as an imported module runs for all of it.

Classes of this package that replace those of a well-known project where its modules are missing are registered here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import TypeVar

from minicaffe.errors import UsageError

log = logging.getLogger("minicaffe")

T = TypeVar("T", bound=type)

_replacements: dict[tuple[str, str], type] = {}  # {(module, class): class of this package}, filled by imports


@dataclass(frozen=True)
class Rule:
    """What Python layers may import.

    allowed: True for every module, False for none, or the names of modules; a package includes its submodules.
    level: the logging level of the line that is written before a module is imported.
    """

    allowed: bool | tuple[str, ...] = True
    level: int = logging.INFO

    def permits(self, module: str) -> bool:
        """Whether a module may be imported."""
        if isinstance(self.allowed, bool):
            return self.allowed
        return any(f"{module}.".startswith(f"{name}.") for name in self.allowed)


_rule = Rule()


def rule() -> Rule:
    """Return the rule in force."""
    return _rule


def set_rule(new: Rule) -> None:
    """Replace the rule, which is immutable, by another."""
    global _rule
    _rule = new


@contextlib.contextmanager
def following(new: Rule) -> Iterator[None]:
    """Put a rule in force in the `with` block, then the previous one."""
    before = rule()
    set_rule(new)
    try:
        yield
    finally:
        set_rule(before)


def allow_python_layers(what: bool | str | Iterable[str] = True) -> None:
    """Choose the modules that Python layers may import, in all threads of the process.

    A prototxt with a Python layer runs the module that it names, with the rights of the user.

    what: True for all modules (default), False for none, or names of modules; a package includes its submodules.
    A layer with another module is a LayerError when a net is built.  Nets that exist already are not affected.
    UsageError for names that are not texts.
    """
    if isinstance(what, bool):
        names: bool | tuple[str, ...] = what
    else:
        names = (what,) if isinstance(what, str) else tuple(what)
        if not all(isinstance(name, str) and name for name in names):
            raise UsageError(f"allow_python_layers: expected True, False or names of modules, got {names!r}")
    set_rule(Rule(names, rule().level))


def announce(layer: str, module: str) -> None:
    """Log that a Python layer imports a module, unless it has been imported already or cannot be found."""
    if module not in sys.modules and (origin := _origin(module)):
        log.log(rule().level, "Python layer '%s' runs the code of module '%s' (%s); --no-python-layers or "
                "minicaffe.allow_python_layers(False) refuses it", layer, module, origin)  # fmt: skip


def replaces(module: str, name: str) -> Callable[[T], T]:
    """Class decorator: the class runs in place of class `name` of a module, where there is no such module.

    module, name: as in python_param.
    """

    def add(cls: T) -> T:
        _replacements[module, name] = cls
        return cls

    return add


def replacement(module: str, name: str) -> type | None:
    """Return the class of this package that replaces a class of a module; None if there is none."""
    return _replacements.get((module, name))


def is_importable(module: str) -> bool:
    """Whether a module has been imported or is on sys.path; no code of it or of its packages is run."""
    if module in sys.modules:
        return True
    package, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return True
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            break
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec is not None


def _origin(module: str) -> str:
    """Return the file or folder from which a module, or the package that contains it, is imported; '' for none."""
    package = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)  # of a submodule, this would import the package
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return "imported already"
    if spec is None:
        return ""
    return spec.origin or ", ".join(spec.submodule_search_locations or ())
