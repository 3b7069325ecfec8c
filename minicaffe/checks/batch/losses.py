"""Checks of the first loss: against chance, saturated, 0, or the same for all samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.checks.batch.first import FirstBatch
from minicaffe.checks.batch.numbers import is_explained_by_data
from minicaffe.checks.batch.observed import LARGEST, ClassLoss, LayerPass, learned
from minicaffe.checks.finding import Found, finds

_HIGH = 2.0  #: the first loss as a multiple of that of equal probabilities, that is reported
_LEAST = 2.0  #: how far above that of equal probabilities it is at least
_SATURATED = 0.25  #: share of positions with a probability of 0 that is reported
_ALIKE = 1e-5  #: deviation of scores over the batch below which they are alike
_SLOW = 1e-3  #: norm of the gradient of any weights, divided by that of the weights, below which none learns


@finds("batch", "labels-all-ignored", "warning")
def labels_all_ignored(batch: FirstBatch) -> Iterator[Found]:
    """Losses that ignore all labels of the batch."""
    for each, loss in _class_losses(batch):
        if not loss.counted:
            yield (
                each.where,
                f"all labels of the batch are the ignore_label {each.layer.layer_param.loss_param.ignore_label}, so "
                "the loss is 0 and nothing is learned from it: look at the labels",
            )


@finds("batch", "loss-zero", "warning")
def loss_zero(batch: FirstBatch) -> Iterator[Found]:
    """A first loss of exactly 0."""
    if batch.is_loss_zero and all(loss.counted for _, loss in _class_losses(batch)):
        yield (
            (batch.losses[0].where if len(batch.losses) == 1 else "the train net"),
            "the loss of the first batch is exactly 0, so nothing is learned: look at targets, loss_weight and margin",
        )


@finds("batch", "loss-saturated", "error")
def loss_saturated(batch: FirstBatch) -> Iterator[Found]:
    """SoftmaxWithLoss with probabilities of 0, whose loss is 87.3365."""
    for each, loss in large(batch):
        if loss.saturated > _SATURATED:
            yield (
                each.where,
                f"the first loss is {loss.loss:.6g}, but {loss.chance:.4g} is that of equal probabilities: "
                f"{loss.saturated:.0%} of the labels have a probability of 0, and a loss of {LARGEST:.6g}, the largest "
                f"in float32; {_growth(batch, each)}",
            )


@finds("batch", "loss-far-above-chance", "warning")
def loss_far_above_chance(batch: FirstBatch) -> Iterator[Found]:
    """A first loss far above that of equal probabilities."""
    for each, loss in large(batch):
        if loss.saturated <= _SATURATED:
            yield (
                each.where,
                f"the first loss is {loss.loss:.4g}, but {loss.chance:.4g} (ln {loss.classes}) is that of equal "
                f"probabilities: the scores are too large at the start; {_growth(batch, each)}",
            )


@finds("batch", "scores-alike", "warning")
def scores_alike(batch: FirstBatch) -> Iterator[Found]:
    """Scores that are the same for all samples because weights are too small."""
    if batch.zeros.dead or batch.zeros.empty or batch.train is None:
        return
    fastest = max((_relative(batch, each) for each in batch.layers), default=1.0)
    for each, loss in _class_losses(batch):
        if loss.counted > 1 and loss.spread < _ALIKE and fastest < _SLOW and loss.loss < loss.chance + _LEAST:
            yield (
                each.where,
                f"the scores are alike for all samples (standard deviation {loss.spread:.2g} over the batch), the loss "
                f"is that of equal probabilities, {loss.loss:.6g}, and no gradient of weights is larger than "
                f"{fastest:.1g} of the weights, so the loss stays: the fillers are too small; write "
                f'weight_filler {{ type: "xavier" }} or "msra", first in {_smallest(batch)}',
            )


def _class_losses(batch: FirstBatch) -> Iterator[tuple[LayerPass, ClassLoss]]:
    for each in batch.losses:
        if each.class_loss is not None:
            yield each, each.class_loss


def large(batch: FirstBatch) -> Iterator[tuple[LayerPass, ClassLoss]]:
    """Yield the losses that are far above that of equal probabilities; none if the data explain it."""
    if is_explained_by_data(batch):
        return
    for each, loss in _class_losses(batch):
        if loss.counted and loss.loss > max(_HIGH * loss.chance, loss.chance + _LEAST):
            yield each, loss


def _relative(batch: FirstBatch, each: LayerPass) -> float:
    """Return the norm of the gradient of a layer's weights, divided by that of the weights; 0 without any."""
    assert batch.train is not None
    blobs = learned(batch.train.net, each.index)
    if not blobs or blobs[0] is not each.layer.blobs[0] or not _is_weights(each):
        return 0.0
    weights, gradient = (float(np.linalg.norm(values)) for values in (blobs[0].read_data(), blobs[0].read_diff()))
    return gradient / weights if weights else 0.0


def _is_weights(each: LayerPass) -> bool:
    return len(each.layer.blobs[0].shape) > 1


def _gain(each: LayerPass) -> float:
    """Return how many times larger the output of a layer with parameters is than its input; 0 for normalisations."""
    usable = each.layer.blobs and each.statistics is None and each.bottoms and each.tops and each.bottoms[0].rms > 0
    return each.tops[0].rms / each.bottoms[0].rms if usable else 0.0


def _growth(batch: FirstBatch, loss: LayerPass) -> str:
    """Name the layer before a loss where values grow most, for the end of a sentence."""
    each = max(batch.layers[: loss.index], key=_gain)
    if _gain(each) <= 1:
        return "the data are too large: scale them to about 1 in transform_param"
    before, behind = each.bottoms[0].rms, each.tops[0].rms
    return (
        f"values grow most in {each.called}, from a root mean square of {before:.4g} to {behind:.4g}: "
        + 'write a smaller weight_filler, such as { type: "xavier" }, or scale the data to about 1'
    )


def _smallest(batch: FirstBatch) -> str:
    """Name the layer with weights whose output is smallest beside its input."""
    layers = [each for each in batch.layers if each.layer.blobs and each.bottoms and _is_weights(each)]
    return min(layers, key=_gain).called if layers else "each layer with weights"
