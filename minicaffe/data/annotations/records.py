"""Boxes of an image, and the record of an SSD database that holds an image and its boxes.

Liu et al., "SSD: Single Shot MultiBox Detector", 2016; messages AnnotatedDatum and NormalizedBBox of its fork of Caffe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from minicaffe.data.box_rows import rows_of
from minicaffe.proto import caffe_pb2


class Box(NamedTuple):
    """A box around an object: its class, and its edges as fractions of the image's width and height."""

    label: int
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False  #: hard to recognise: not counted in evaluation, and by default not trained on


def annotated_datum(datum: caffe_pb2.Datum, boxes: Iterable[Box]) -> caffe_pb2.AnnotatedDatum:
    """Return the record of an image and its boxes.

    Boxes of one class form a group, the groups in the order of their first boxes; instances are numbered from 0 on in
    each group.
    """
    record = caffe_pb2.AnnotatedDatum(datum=datum, type=caffe_pb2.AnnotatedDatum.BBOX)
    groups: dict[int, caffe_pb2.AnnotationGroup] = {}
    for label, xmin, ymin, xmax, ymax, difficult in boxes:
        if label not in groups:
            groups[label] = record.annotation_group.add(group_label=label)
        annotation = groups[label].annotation.add(instance_id=len(groups[label].annotation))
        annotation.bbox.MergeFrom(
            caffe_pb2.NormalizedBBox(xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, difficult=difficult)
        )
    return record


def boxes_of(record: caffe_pb2.AnnotatedDatum, name: str = "the record") -> list[Box]:
    """Return the boxes of a record, group by group; name: the record, for the errors of `box_rows.rows_of`."""
    return [
        Box(int(label), xmin, ymin, xmax, ymax, bool(difficult))
        for label, _, xmin, ymin, xmax, ymax, difficult in rows_of(record, name).tolist()
    ]
