"""Nets as data: a folder for each, with train_test, solver and deploy prototxt and a readme.

`folder("cifar10_quick")` returns the folder of a net's files, in a checkout as well as in an installed package.
`minicaffe models` lists and copies them, and those of the zoo, with `texts`.
"""

from __future__ import annotations

import os

from minicaffe.errors import UsageError, nearest

_HERE = os.path.dirname(os.path.abspath(__file__))


def names() -> list[str]:
    """Return the names of the nets in this package, sorted."""
    return sorted(n for n in os.listdir(_HERE) if os.path.exists(os.path.join(_HERE, n, "train_test.prototxt")))


def folder(name: str) -> str:
    """Return the folder of a net; raise `UsageError` with the known names when there is no such net."""
    if name not in names():
        raise UsageError(f"there is no net '{name}'{nearest(name, names())}; it has {', '.join(names())}")
    return os.path.join(_HERE, name)
