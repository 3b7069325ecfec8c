"""The labels of an AnnotatedData layer with yolo_data_type 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.box_rows import corners_of
from minicaffe.errors import DataError
from minicaffe.proto.caffe_pb2 import AnnotatedDataParameter

ROWS = 300  #: most boxes of an image


class YoloLabels:
    """Makes the labels of a batch, (N, 1, 300, 5), of the rows of its boxes, see `box_rows`.

    A row is (label - 1, x, y, width, height), centre and size in fractions of the image; rows of 0 follow.
    param: train_diffcult, whether difficult boxes are used.
    DataError for an image with more than 300 boxes.
    """

    def __init__(self, param: AnnotatedDataParameter) -> None:
        self._with_difficult = param.train_diffcult

    def __call__(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        labels = np.zeros((len(rows), 1, ROWS, 5), np.float32)
        for (place,), own in zip(labels, rows):
            used = own if self._with_difficult else own[own[:, -1] == 0]
            if len(used) > ROWS:
                raise DataError(f"with yolo_data_type 1 an image has at most {ROWS} boxes, got {len(used)}")
            corners = corners_of(used)
            place[: len(used), 0] = used[:, 0] - 1
            place[: len(used), 1:3] = (corners[:, :2] + corners[:, 2:]) / 2
            place[: len(used), 3:] = corners[:, 2:] - corners[:, :2]
        return labels
