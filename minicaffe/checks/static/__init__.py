"""Checks of prototxts and weights, without data: one module for each topic."""

from __future__ import annotations

from minicaffe.checks.subject import Subject


def prepared(subject: Subject) -> Subject:
    """Return the subject of static checks, which is the Subject itself."""
    return subject
