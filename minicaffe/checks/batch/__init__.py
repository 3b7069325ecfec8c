"""Checks of one batch: what the nets compute, forward and backward, before the first update."""

from minicaffe.checks.batch.first import FirstBatch

__all__ = ["FirstBatch"]
