"""Checks of zeros: layers that give nothing else, and gradients that do not arrive."""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.checks.batch.causes import RECTIFIERS, starts_at_zero
from minicaffe.checks.batch.first import FirstBatch
from minicaffe.checks.batch.observed import LayerPass, learned
from minicaffe.checks.finding import Found, finds
from minicaffe.errors import listed


@finds("batch", "weights-zero", "error")
def weights_zero(batch: FirstBatch) -> Iterator[Found]:
    """Layers whose weights, or scale, are 0 in the files of weights, or by a filler that gives 0."""
    for each in batch.zeros.empty:
        param = each.layer.layer_param
        if batch.is_filled(each.layer):
            what = f"the {_what(param.type)} in the weights are all 0"
        elif not starts_at_zero(param):
            what = f"the filler makes all {_what(param.type)} 0"
        else:
            continue  # a fact of the prototxt
        yield each.where, (
            f"{what}, so its output is the same for every input, and the layers before get no gradient: "
            + ("take other weights, or rename the layer so that it starts from its filler"
               if batch.is_filled(each.layer) else "write a filler with another range")
        )  # fmt: skip


@finds("batch", "dead-layer", "warning")
def dead_layer(batch: FirstBatch) -> Iterator[Found]:
    """Layers whose output is 0 for the whole batch."""
    empty = {each.index for each in batch.zeros.empty}
    reached = {each.index for each in batch.zeros.reached}
    for each in batch.zeros.roots:
        kind = each.layer.layer_param.type
        if each.index in empty or not (kind in RECTIFIERS or each.index in reached):
            continue
        if not each.bottoms:
            yield each.where, "the data are 0 in the whole batch, so the net learns nothing: look at source and scale"
        elif kind in RECTIFIERS:
            yield (
                each.where,
                f"all values before this {kind} are 0 or below in the whole batch (mean {each.bottoms[0].mean:.4g}), "
                "so its output is 0 and the layers before get no gradient: look at the fillers and biases before it, "
                "or lower base_lr if the weights have come to this in training",
            )
        elif kind == "BatchNorm":
            yield (
                each.where,
                "its input is the same for all samples, so the normalised output is 0: look at the data and at the "
                "layers before it",
            )
        else:
            yield (
                each.where,
                f"its output is 0 in the whole batch, though its input is not (root mean square "
                f"{each.bottoms[0].rms:.4g}): the layers behind it see no difference between samples",
            )


@finds("batch", "gradient-zero", "warning")
def gradient_zero(batch: FirstBatch) -> Iterator[Found]:
    """Layers at which the gradient ends, and layers that learn but get a gradient of 0."""
    if batch.train is None or batch.is_loss_zero:
        return
    for each in batch.zeros.ends:
        before = [other.layer.name for other in batch.layers[: each.index] if _waits(batch, other)]
        if before:
            yield (
                each.where,
                f"a gradient arrives at this {each.called.split()[0]}, but what it passes on is 0, so {listed(before)} "
                "before it learn nothing: look at its parameters, and whether its values are saturated",
            )
    for each in batch.layers:
        blobs = learned(batch.train.net, each.index)
        if blobs and each.arrives and each.index not in batch.zeros.dead and not _has_dead_input(batch, each):
            if not any(blob.read_diff().any() for blob in blobs):
                yield (
                    each.where,
                    "the gradient of its parameters is 0 in this batch, though they shall learn: look at the input of "
                    f"the layer (root mean square {each.bottoms[0].rms if each.bottoms else 0:.4g})",
                )


def _waits(batch: FirstBatch, each: LayerPass) -> bool:
    """Whether a layer shall learn, but no gradient arrives at it."""
    assert batch.train is not None
    return bool(learned(batch.train.net, each.index)) and not each.arrives


def _has_dead_input(batch: FirstBatch, each: LayerPass) -> bool:
    return bool(each.bottoms) and each.bottoms[0].zero


def _what(kind: str) -> str:
    return "scales" if kind == "Scale" else "weights"
