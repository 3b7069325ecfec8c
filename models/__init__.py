"""Nets as data: a folder for each, with train_test, solver and deploy prototxt and a readme.

`folder("cifar10_quick")` is where a net's files are, in a checkout as well as installed.
"""

from __future__ import annotations

import os

from minicaffe.errors import UsageError, nearest

_HERE = os.path.dirname(os.path.abspath(__file__))


def names() -> list[str]:
    """The nets that come with minicaffe, sorted."""
    return sorted(n for n in os.listdir(_HERE) if os.path.exists(os.path.join(_HERE, n, "train_test.prototxt")))


def folder(name: str) -> str:
    """The folder of one net; `UsageError` with the known names when there is no such net."""
    if name not in names():
        raise UsageError(f"minicaffe brings no net '{name}'{nearest(name, names())}; it has {', '.join(names())}")
    return os.path.join(_HERE, name)
