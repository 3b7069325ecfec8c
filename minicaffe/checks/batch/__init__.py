"""Checks of one batch: what the nets compute, forward and backward, before the first update."""

from minicaffe.checks.batch import losses, numbers, statistics, update, zeros  # noqa: F401  (they register their checks)
from minicaffe.checks.batch.first import FirstBatch

__all__ = ["FirstBatch"]
