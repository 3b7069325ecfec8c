"""Databases of images with boxes, and plain computations on boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.proto import caffe_pb2

Box = Sequence[float]  # group label, instance, xmin, ymin, xmax, ymax, difficult


def record(image: np.ndarray, boxes: Iterable[Box], encoded: str = "", label: int = -1) -> caffe_pb2.AnnotatedDatum:
    """An AnnotatedDatum of an image (C, H, W); boxes of one label, if they follow each other, are one group.

    encoded: the file type of the image; "": as it is.
    """
    result = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
    if encoded:
        result.datum.MergeFrom(caffe_pb2.Datum(data=encode_image(image, encoded), encoded=True, label=label))
    else:
        result.datum.MergeFrom(array_to_datum(image, label))
    for group_label, instance, xmin, ymin, xmax, ymax, difficult in boxes:
        groups = result.annotation_group
        if not groups or groups[-1].group_label != group_label:
            groups.add(group_label=int(group_label))
        box = caffe_pb2.NormalizedBBox(xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, difficult=bool(difficult))
        groups[-1].annotation.add(instance_id=int(instance), bbox=box)
    return result


def write_records(path: str, records: Iterable[caffe_pb2.AnnotatedDatum], backend: str = "lmdb") -> None:
    """Write a database of records, in this order."""
    with open_db(path, backend, "w") as database:
        for index, each in enumerate(records):
            database.put(f"{index:05d}", each.SerializeToString())


def random_records(count: int, seed: int = 0, encoded: str = "png") -> list[caffe_pb2.AnnotatedDatum]:
    """Records of noise of different sizes, with 0 to 3 random boxes each."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        image = rng.integers(0, 256, (3, *rng.integers(20, 40, 2)), np.uint8)
        corners = np.sort(rng.random((rng.integers(4), 2, 2)), axis=1).reshape(-1, 4)
        boxes = [(rng.integers(1, 4), i, *own, rng.integers(2)) for i, own in enumerate(corners)]
        result.append(record(image, boxes, encoded))
    return result


#: the inside of an AnnotatedData layer whose training does all that SSD's does
TRAINING = """type: "AnnotatedData" data_param { source: "annotated" backend: LMDB batch_size: 5 }
    transform_param { mirror: true mean_value: 104 mean_value: 117 mean_value: 123
        resize_param { height: 12 width: 14 interp_mode: LINEAR interp_mode: NEAREST }
        emit_constraint { emit_type: CENTER }
        distort_param { brightness_prob: 0.5 brightness_delta: 32 hue_prob: 0.5 hue_delta: 18
            contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5
            saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5
            random_order_prob: 0.2 }
        expand_param { prob: 0.5 max_expand_ratio: 4 } }
    annotated_data_param {
        batch_sampler { max_sample: 1 max_trials: 1 }
        batch_sampler { sampler { min_scale: 0.3 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
            sample_constraint { min_jaccard_overlap: 0.3 } max_sample: 1 max_trials: 50 }
        batch_sampler { sampler { min_scale: 0.3 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
            sample_constraint { max_jaccard_overlap: 1 } max_sample: 1 max_trials: 50 } }"""
