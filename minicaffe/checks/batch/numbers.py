"""Checks of values that are not finite, and of the scale of data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.checks.batch.first import FirstBatch
from minicaffe.checks.batch.observed import LayerPass, Observed
from minicaffe.checks.finding import Found, finds
from minicaffe.checks.static.facts import has_weights, reads_images
from minicaffe.core.layer import Layer
from minicaffe.errors import listed

_LARGE_MEAN = 30.0  #: mean of the input of the first layer with weights that is reported


@finds("batch", "not-finite", "error")
def not_finite(batch: FirstBatch) -> Iterator[Found]:
    """The layer of the train net with which nan or infinity begins."""
    if batch.train is not None and (each := _first_fault(batch.train)) is not None:
        yield each.where, _sentence(each, batch)


@finds("batch", "test-not-finite", "error")
def test_not_finite(batch: FirstBatch) -> Iterator[Found]:
    """The layer of a test net with which nan or infinity begins."""
    if not batch.is_finite:
        return
    for number, observed in enumerate(batch.tests):
        if (each := _first_fault(observed)) is not None:
            yield each.where + (f" in TEST net {number}" if number else " in TEST"), _sentence(each, batch)


@finds("batch", "gradient-not-finite", "error")
def gradient_not_finite(batch: FirstBatch) -> Iterator[Found]:
    """The layer with which gradients that are nan or infinite begin, from the loss backward."""
    for each in reversed(batch.layers):
        if each.faults:
            yield (
                each.where,
                f"all values are finite, but the gradient of {listed(each.faults)} is not, so the first update makes "
                "the parameters nan: lower loss_weight, or scale targets and data to about 1",
            )
            return


def _first_fault(observed: Observed) -> LayerPass | None:
    """Return the first layer whose output has a fault that no input has."""
    for each in observed.layers:
        if any(top.fault for top in each.tops) and not any(bottom.fault for bottom in each.bottoms):
            return each
    return None


def _sentence(each: LayerPass, batch: FirstBatch) -> str:
    fault = next(top.fault for top in each.tops if top.fault)
    if not each.bottoms:
        return f"the data have {fault}: correct the source, or the scale and the mean of its transformation"
    if not all(np.isfinite(blob.read_data()).all() for blob in each.layer.blobs):
        origin = "in the weights" if batch.is_filled(each.layer) else "after the fillers"
        return f"its output has {fault}, because its parameters are not finite {origin}: take other weights"
    largest = max(bottom.rms for bottom in each.bottoms)
    return (
        f"its output has {fault}, though its input is finite (root mean square {largest:.4g}): scale data and targets "
        "to about 1, and look at the parameters of this layer"
    )


# -- the scale of data ---------------------------------------------------------------------------


@finds("batch", "data-not-centred", "warning")
def data_not_centred(batch: FirstBatch) -> Iterator[Found]:
    """Data with a large mean, which a layer with weights reads."""
    found: list[Layer] = []
    for source, each in _first_readers(batch):
        mean = each.bottoms[0].mean
        if abs(mean) > _LARGE_MEAN and not _has_mean(source) and source not in found:
            found.append(source)
            yield (
                f"layer '{source.name}'",
                f"the mean of what layer '{each.layer.name}' reads is {mean:.4g} (root mean square "
                f"{each.bottoms[0].rms:.4g}), so learning is slow or the loss grows: {_advice(source)}",
            )


def is_explained_by_data(batch: FirstBatch) -> bool:
    """Whether data that are not centred, or with the mean of other data subtracted, explain large values."""
    if any(True for _ in data_not_centred(batch)):
        return True
    return any(_has_mean(source) and each.bottoms[0].is_shifted for source, each in _first_readers(batch))


def _first_readers(batch: FirstBatch) -> Iterator[tuple[Layer, LayerPass]]:
    """Yield the layers with weights that read data, with the data layers, which no learned layer is between."""
    if batch.train is None:
        return
    net = batch.train.net
    sources: dict[int, Layer | None] = {}  # by id of a blob: the data layer from which it comes
    for each in batch.layers:
        bottoms = net.bottoms[each.index]
        source = sources.get(id(bottoms[0])) if bottoms else each.layer
        if has_weights(each.layer.layer_param) and each.layer.type != "Embed" and source is not None:
            yield source, each
        for blob in net.tops[each.index]:
            sources[id(blob)] = None if each.layer.blobs else source


def _has_mean(source: Layer) -> bool:
    param = source.layer_param.transform_param
    return param.HasField("mean_file") or bool(param.mean_value)


def _advice(source: Layer) -> str:
    if reads_images(source.layer_param):
        return "write mean_file or mean_value in transform_param, and scale if other layers expect about 1"
    return "subtract the mean where the data are made"
