"""Checks of data sets: what the sources of data layers hold, against the nets that read them."""

from minicaffe.checks.data import agreement, amounts, boxes, images, labels  # noqa: F401  (they register their checks)
from minicaffe.checks.data.sets import DataSets

__all__ = ["DataSets"]
