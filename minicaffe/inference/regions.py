"""Detections of two-stage detectors, Faster R-CNN and R-FCN: boxes by class from the outputs of their test nets.

Source: py-faster-rcnn's lib/fast_rcnn/test.py (im_detect, test_net); config.py for the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.core.net import Net
from minicaffe.layers.extensions.faster_rcnn.images import prepared
from minicaffe.layers.shared.anchors import clipped
from minicaffe.layers.shared.boxes import suppress
from minicaffe.layers.shared.pixel_boxes import decode_pixels, edges

PIXEL_MEANS = (102.9801, 115.9465, 122.7717)  #: of blue, green and red


class Detection(NamedTuple):
    """A box in pixels of the image, both ends included."""

    label: int
    score: float
    box: tuple[float, float, float, float]  #: x1, y1, x2, y2


def detect(
    net: Net,
    image: np.ndarray,
    target: float = 600,
    most: float = 1000,
    pixel_means: Sequence[float] = PIXEL_MEANS,
    **options,
) -> list[Detection]:
    """Return the objects that a test net finds in an image, the best first.

    net: with inputs `data` (1, 3, H, W) and `im_info` (1, 3), and blobs `rois`, `cls_prob` and `bbox_pred`.
    image: (3, H, W), BGR, 0 to 255.  target: length of its shorter side after scaling, in pixels; most: of the longer.
    options: as for `detections`.
    """
    data, scale = prepared(image, pixel_means, target, most)
    net.blobs["data"].reshape(1, *data.shape)
    net.blobs["data"].data[...] = data
    net.blobs["im_info"].reshape(1, 3)
    net.blobs["im_info"].data[...] = [*data.shape[1:], scale]
    net.forward()
    rois, scores, codes = (net.blobs[name].data for name in ("rois", "cls_prob", "bbox_pred"))
    boxes = rois.reshape(len(rois), -1)[:, 1:5] / scale if len(rois) else np.zeros((0, 4))
    scores, codes = (each.reshape(len(rois), each.shape[1]) for each in (scores, codes))
    return detections(boxes, scores, codes, (image.shape[1], image.shape[2]), **options)


def detections(
    boxes: np.ndarray,
    scores: np.ndarray,
    codes: np.ndarray,
    size: tuple[int, int],
    *,
    threshold: float = 0.05,
    overlap: float = 0.3,
    limit: int = 100,
    means: Sequence[float] = (0, 0, 0, 0),
    stds: Sequence[float] = (1, 1, 1, 1),
) -> list[Detection]:
    """Return the detections of an image, the best first.

    boxes: (R, 4), regions in pixels of the image.  scores: (R, classes), class 0 is the background.
    codes: (R, 4 classes), or (R, 8) for one regression of all classes, whose last four columns are used.
    size: (height, width) of the image.  threshold: scores up to it are left out.
    overlap: above it, the worse of two boxes of a class is dropped.  limit: most detections.
    means, stds: of the targets in training.  py-faster-rcnn multiplies them into the weights of a snapshot; for weights
        trained by minicaffe give those of the training, by default means 0 and stds (0.1, 0.1, 0.2, 0.2).
    """
    count, classes = scores.shape
    codes = codes.reshape(count, codes.shape[1] // 4, 4) * np.array(stds) + np.array(means)
    of_class = clipped(decode_pixels(codes, boxes[:, None].astype(np.float64)), *size)
    found = []
    for label in range(1, classes):
        chosen = np.flatnonzero(scores[:, label] > threshold)
        chosen = chosen[np.argsort(-scores[chosen, label], kind="stable")]
        own = of_class[chosen, min(label, of_class.shape[1] - 1)]
        found += [
            Detection(label, float(scores[chosen[i], label]), tuple(own[i])) for i in suppress(edges(own), overlap)
        ]
    return sorted(found, key=lambda each: -each.score)[:limit]
