"""Checks of BatchNorm's statistics in the weights: never trained, or of other data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.checks.batch.first import FirstBatch
from minicaffe.checks.batch.observed import LayerPass
from minicaffe.checks.finding import Found, finds
from minicaffe.errors import listed

_VALUES = 64  #: that a channel has in the batch, at least, so that its statistics say something
_SHIFT = 1.0  #: median distance of means, in standard deviations, that is reported
_RATIO = 4.0  #: median ratio of variances that is reported


@finds("batch", "batch-norm-no-statistics", "warning")
def without_statistics(batch: FirstBatch) -> Iterator[Found]:
    """BatchNorms whose statistics in the weights have never been trained, and which a test net uses."""
    found = {}
    for observed in batch.tests:
        for i, (_, variance) in observed.stored.items():
            layer: Any = observed.net.layers[i]
            if batch.is_filled(layer) and layer.use_global_stats and not variance.any():
                found[layer.name] = layer.eps
    for name, eps in found.items():
        yield (
            f"layer '{name}'",
            "the weights have this layer, but its statistics have never been trained (factor or variance is 0): in "
            f"TEST its output is the input times {eps**-0.5:.4g} (1 / sqrt(eps {eps:g})) until an iteration in TRAIN "
            "has set them; take weights of a net that was trained with use_global_stats false, the default in TRAIN",
        )


@finds("batch", "batch-norm-far", "warning")
def far_statistics(batch: FirstBatch) -> Iterator[Found]:
    """BatchNorms whose statistics in the weights are not those of the data."""
    far = [(each, *found) for each in batch.layers if (found := _distance(batch, each)) is not None]
    if far:
        each, shift, ratio = far[0]
        more = f" (as {len(far) - 1} more: {listed(other.layer.name for other, _, _ in far[1:])})" if far[1:] else ""
        yield (
            each.where,
            f"mean and variance in the weights are not those of this batch{more}: the means differ by {shift:.3g} "
            f"standard deviations, the variances by a factor of {ratio:.3g} (medians over channels), so TEST and TRAIN "
            "compute different outputs; look whether mean and scale of the data are those that the weights were "
            "trained with, and whether blobs 0 and 1 are sums that blob 2 divides",
        )


def _distance(batch: FirstBatch, each: LayerPass) -> tuple[float, float] | None:
    """Return the median distance of means and ratio of variances, if one of them is large; None otherwise."""
    stored = batch.train.stored.get(each.index) if batch.train is not None else None
    if stored is None or each.statistics is None or not batch.is_filled(each.layer):
        return None
    mean, variance, values = each.statistics
    own_mean, own_variance = stored[0], np.maximum(stored[1], 0)
    if values < _VALUES or not stored[1].any():
        return None
    eps = float(each.layer.layer_param.batch_norm_param.eps)
    shift = float(np.median(np.abs(own_mean - mean) / np.sqrt((variance + own_variance) / 2 + eps)))
    ratio = float(np.exp(np.median(np.abs(np.log((own_variance + eps) / (variance + eps))))))
    return (shift, ratio) if shift > _SHIFT or ratio > _RATIO else None
