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
from minicaffe.core.registry import layer_class


def prepared(subject: Subject) -> Subject:
    """Return the Subject of static checks, whose nets are graphs of known layers, and whose weights can be opened.

    Raises NetError for a bottom that no layer makes, LayerError for an unknown type, and as `Subject.stored` does.
    """
    for net in subject.nets():
        insert_splits(net.param, net.whole)
        for layer in net.param.layer:
            layer_class(layer.type, name=layer.name)
    _ = subject.stored
    return subject
