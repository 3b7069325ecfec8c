"""Checks of annotated boxes: whether there are any, their area, their labels, and the file of the names of labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from minicaffe.checks.data.records import Boxes
from minicaffe.checks.data.sets import DataLayer, DataSets
from minicaffe.checks.finding import Found, finds


@finds("data", "no-boxes", "warning")
def no_boxes(sets: DataSets) -> Iterator[Found]:
    """Find databases whose records have a type of annotation, but no boxes."""
    for layer, boxes in _annotated(sets):
        if not boxes.labels:
            yield layer.where, f"none of {boxes.images} records read has a box: a detector learns the background only"


@finds("data", "boxes-without-area", "info")
def boxes_without_area(sets: DataSets) -> Iterator[Found]:
    """Find boxes without area, which are dropped."""
    for layer, boxes in _annotated(sets):
        if boxes.empty:
            total = sum(boxes.labels.values())
            yield (
                layer.where,
                f"{boxes.empty} of {total} boxes have no area in their image: they are dropped",
            )


@finds("data", "box-labels", "error")
def box_labels(sets: DataSets) -> Iterator[Found]:
    """Find labels of boxes that are those of the background, or that the loss has no class for."""
    for layer, boxes in _annotated(sets):
        for _, loss in layer.net.of_type("MultiBoxLoss"):
            param = loss.multibox_loss_param
            if not boxes.labels or len(layer.param.top) < 2 or layer.param.top[1] not in loss.bottom:
                continue
            if text := _wrong_label(boxes, param.background_label_id, param.num_classes, loss.name):
                yield layer.where, text
        for kind, field in _YOLO.items():
            for _, loss in layer.net.of_type(kind):
                if boxes.labels and len(layer.param.top) > 1 and layer.param.top[1] in loss.bottom:
                    if text := _wrong_yolo_label(boxes, getattr(loss, field), f"'{loss.name}' ({kind})"):
                        yield layer.where, text


#: losses of YOLO, and the field of their parameters
_YOLO = {"RegionLoss": "region_loss_param", "Yolov3": "yolov3_param"}


def _wrong_yolo_label(boxes: Boxes, param: Any, loss: str) -> str:
    """Return what is wrong with the labels for a loss of YOLO; "" if they are right, or files of it map them."""
    low, high = min(boxes.labels), max(boxes.labels)
    mapped = "class_map" in param.DESCRIPTOR.fields_by_name and (param.class_map or param.softmax_tree)
    if mapped or 1 <= low <= high <= param.num_class:
        return ""
    return (
        f"the labels of boxes are {low} to {high}, but layer {loss} has num_class {param.num_class}, which are the "
        f"labels 1 to {param.num_class}: number the classes from 1 in the label map"
    )


def _wrong_label(boxes: Boxes, background: int, classes: int, loss: str) -> str:
    """Return what is wrong with the labels for a MultiBoxLoss layer of this name; "" if they are right.

    With two classes, labels above 1 are 1, as RefineDet's first loss has them.
    """
    low, high = min(boxes.labels), max(boxes.labels)
    if background in boxes.labels:
        return (
            f"{boxes.labels[background]} boxes have the label {background}, which is that of the background in layer "
            f"'{loss}' (MultiBoxLoss): number the classes from 1 in the label map"
        )
    if low < 0 or (classes != 2 and high >= classes > 0):
        return (
            f"the labels of boxes are {low} to {high}, but layer '{loss}' (MultiBoxLoss) has the classes 0 to "
            f"{classes - 1}: write num_classes: {high + 1}, and the same in the layers that compute scores"
        )
    return ""


@finds("data", "label-map-missing", "info")
def label_map_missing(sets: DataSets) -> Iterator[Found]:
    """Find label_map_file that do not exist."""
    for layer in sets.layers:
        path = layer.param.annotated_data_param.label_map_file
        if path and not os.path.exists(path):
            yield (
                layer.where,
                f"there is no label_map_file {path}: training does not read it, it is for people and tools",
            )


def _annotated(sets: DataSets) -> Iterator[tuple[DataLayer, Boxes]]:
    for layer in sets.layers:
        if layer.records.boxes is not None:
            yield layer, layer.records.boxes
