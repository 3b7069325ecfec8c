"""Checks of the first update."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from minicaffe.checks.batch.first import FirstBatch
from minicaffe.checks.batch.losses import large
from minicaffe.checks.batch.numbers import is_explained_by_data
from minicaffe.checks.batch.observed import learned
from minicaffe.checks.finding import Found, finds
from minicaffe.core.net import Net
from minicaffe.solvers.lr_policy import learning_rate

_GROWTH = 10.0  #: of the loss by the first update that is reported
_PLAIN = {"SGD", "Nesterov"}  #: solvers whose first update is the gradient times the rate


@finds("batch", "first-update-diverges", "warning")
def first_update_diverges(batch: FirstBatch) -> Iterator[Found]:
    """A loss of the first batch that is much larger after the first update, if nothing else explains it."""
    if not _is_plain(batch) or any(each.faults for each in batch.layers) or batch.train is None:
        return
    if is_explained_by_data(batch) or any(True for _ in large(batch)):
        return
    before, after = batch.train.loss, _loss_after_update(batch, batch.train.net)
    if before > 0 and not after <= _GROWTH * before:
        yield (
            "base_lr",
            f"the loss of the first batch is {before:.4g}, and {after:.4g} after the first update with a rate of "
            f"{_rate(batch):g}, so training diverges: lower base_lr, or scale targets and data to about 1",
        )


@finds("batch", "large-first-update", "info")
def large_first_update(batch: FirstBatch) -> Iterator[Found]:
    """Weights that the first update changes by more than their own size."""
    if not _is_plain(batch) or batch.train is None:
        return
    mults = _mults(batch.train.net)
    for each in batch.layers:
        for blob in learned(batch.train.net, each.index)[:1]:
            rate = _rate(batch) * mults[id(blob.data_memory)]
            weights, gradient = (float(np.linalg.norm(values)) for values in (blob.read_data(), blob.read_diff()))
            if weights and rate * gradient > weights:
                yield (
                    each.where,
                    f"the first update is {rate * gradient / weights:.3g} times as large as the weights (norms "
                    f"{rate * gradient:.3g} and {weights:.3g}): common with small fillers; if the loss grows, lower "
                    "base_lr",
                )


def _is_plain(batch: FirstBatch) -> bool:
    return batch.subject.param.type in _PLAIN and bool(batch.layers)


def _rate(batch: FirstBatch) -> float:
    """Return the learning rate of the first iteration."""
    return learning_rate(batch.subject.param, 0, 0)[0]


def _mults(net: Net) -> dict[int, float]:
    """Return the multiples of the rate, by id of a parameter's memory."""
    return {id(blob.data_memory): mult for blob, mult in zip(net.learnable_params, net.lr_mults)}


def _loss_after_update(batch: FirstBatch, net: Net) -> float:
    """Return the loss of the first batch after the first update, without weight decay; the parameters are restored."""
    rate, blobs = _rate(batch) * _clipping(batch, net), net.learnable_params
    before = [blob.read_data().copy() for blob in blobs]
    with np.errstate(all="ignore"):
        for blob, mult, values in zip(blobs, net.lr_mults, before):
            if mult:
                blob.data[...] = values - np.float32(rate * mult) * blob.read_diff()
        net.run_forward(_behind_data(net))
        loss = net.loss()
    for blob, values in zip(blobs, before):
        blob.data[...] = values
    return loss


def _clipping(batch: FirstBatch, net: Net) -> float:
    """Return the factor by which clip_gradients reduces the gradients."""
    limit = batch.subject.param.clip_gradients
    if limit <= 0:
        return 1.0
    norm = math.sqrt(sum(float(np.square(blob.read_diff(), dtype=np.float64).sum()) for blob in net.learnable_params))
    return min(1.0, limit / norm) if norm else 1.0


def _behind_data(net: Net) -> int:
    """Return the first layer behind the data layers; 0 if the net cannot run from there with the same data."""
    start = next((i for i, bottoms in enumerate(net.bottoms) if bottoms), 0)
    data = [blob for tops in net.tops[:start] for blob in tops]
    behind = [blob for tops in net.tops[start:] for blob in tops]
    changed = any(blob is other for blob in data for other in behind)  # in place
    return 0 if changed or not all(net.bottoms[start:]) else start
