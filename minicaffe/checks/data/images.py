"""Checks of images against the transformation: sizes, crop, and mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.checks.data.records import Shape
from minicaffe.checks.data.sets import DataLayer, DataSets
from minicaffe.checks.finding import Found, finds
from minicaffe.errors import DataError

_FAR = 0.5  #: distance of a mean from that of the data, in standard deviations, that is reported
_CHANNELS = "write force_color: true or force_gray: true in transform_param, which decode encoded records"
_ENOUGH = 10  #: images from which the mean of the data is taken, at least


@finds("data", "crop-too-large", "error")
def crop_too_large(sets: DataSets) -> Iterator[Found]:
    """Find images that are smaller than the crop."""
    for layer in sets.layers:
        for shape in sorted(layer.records.shapes):
            if fault := _fault_of_crop(layer, shape):
                yield layer.where, fault
                break


@finds("data", "unequal-sizes", "error")
def unequal_sizes(sets: DataSets) -> Iterator[Found]:
    """Find images of different shapes in one batch."""
    for layer in sets.layers:
        if layer.transformer is None or layer.batch_size < 2:
            continue
        shapes = [shape for shape in sorted(layer.records.shapes) if not _fault_of_crop(layer, shape)]
        found = {layer.transformer.output_shape(shape): shape for shape in shapes}
        if len(found) > 1:
            first, second = list(found.values())[:2]
            yield (
                layer.where,
                f"it has images of shape {first} and of shape {second}, which cannot be in one batch: "
                + (_advice(layer) if first[0] == second[0] else _CHANNELS),
            )


@finds("data", "color-not-forced", "warning")
def color_not_forced(sets: DataSets) -> Iterator[Found]:
    """Find records that force_color and force_gray do not change, because they are not encoded."""
    for layer in sets.layers:
        common = layer.param.transform_param
        for name, is_set, channels in (("force_color", common.force_color, 3), ("force_gray", common.force_gray, 1)):
            others = {shape[0] for shape in layer.records.shapes} - {channels}
            if layer.param.type == "Data" and is_set and others and not layer.records.encoded:
                yield (
                    layer.where,
                    f"{name} has no effect, as the records are not encoded, and they have {max(others)} channel(s): "
                    "make the database with convert_imageset --encoded, or with --gray for one channel",
                )


@finds("data", "mean-shape", "error")
def mean_shape(sets: DataSets) -> Iterator[Found]:
    """Find means that do not have the shape of the images."""
    for layer in sets.layers:
        if layer.transformer is None or layer.transformer.resizer is not None:
            continue
        for shape in sorted(layer.records.shapes):
            try:
                layer.transformer.check_mean(shape)
            except DataError as error:
                advice = ": compute the mean from this source with compute_image_mean"
                yield layer.where, f"{error}" + (advice if layer.transformer.mean_file else "")
                break


@finds("data", "mean-of-other-data", "warning")
def mean_of_other_data(sets: DataSets) -> Iterator[Found]:
    """Find means that are far from the mean of the data."""
    for layer in sets.train:
        own, deviation = layer.records.pixels.mean, layer.records.pixels.deviation
        if layer.transformer is None or layer.transformer.mean is None or own is None or deviation is None:
            continue
        mean = layer.transformer.mean.reshape(len(layer.transformer.mean), -1).mean(1)
        if layer.records.pixels.images < _ENOUGH or len(mean) not in (1, len(own)):
            continue
        if (np.abs(mean - own) > _FAR * deviation).any():
            given = layer.transformer.mean_file or "mean_value"
            yield (
                layer.where,
                f"the mean to subtract, {_numbers(mean)} ({given}), is far from that of the data, {_numbers(own)} with "
                f"standard deviation {_numbers(deviation)}: it belongs to other data, or to another range of values; "
                "compute the mean from this source with compute_image_mean",
            )


def _fault_of_crop(layer: DataLayer, shape: Shape) -> str:
    """Return the sentence of the transformer for images of a shape that it cannot crop; "" if it can."""
    if layer.transformer is None:
        return ""
    try:
        layer.transformer.output_shape(shape)
    except DataError as error:
        return str(error)
    return ""


def _advice(layer: DataLayer) -> str:
    if layer.param.type == "ImageData":
        return "write new_height and new_width in image_data_param, or crop_size in transform_param"
    if layer.param.type == "AnnotatedData":
        return "write resize_param or crop_size in transform_param"
    return "write crop_size in transform_param, or make the database with --resize_height and --resize_width"


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
