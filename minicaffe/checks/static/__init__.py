"""Checks of prototxts and weights, without data: one module for each topic."""

from __future__ import annotations

from minicaffe.checks.static import (  # noqa: F401  (each registers its checks)
    batch_norm,
    deploy,
    fillers,
    learning,
    losses,
    schedule,
    solver,
    transforms,
    unused,
    weights,
)
from minicaffe.checks.subject import Subject
from minicaffe.core.passes import insert_splits


def prepared(subject: Subject) -> Subject:
    """Return the Subject of static checks, whose nets are graphs, and whose weights can be opened.

    subject: one with nets of known layers.
    Raises NetError for a bottom that no layer makes, and as `Subject.stored` does.
    """
    for net in subject.nets():
        insert_splits(net.param, net.whole)
    _ = subject.stored
    return subject
