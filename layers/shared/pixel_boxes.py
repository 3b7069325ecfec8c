"""Boxes in pixels, as in Fast R-CNN: (x1, y1, x2, y2) of the first and the last pixel, width x2 - x1 + 1.

Source: Girshick, Fast R-CNN, 2015, appendix C of Girshick et al., R-CNN, 2014; py-faster-rcnn's bbox_transform.py.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.layers.shared.boxes import overlaps


class CodeStatistics:
    """The mean and the standard deviation of codes, of a layer's bbox_reg_param; 0 and 1 unless both are given."""

    def __init__(self, layer: Layer) -> None:
        param = layer.layer_param.bbox_reg_param
        given = bool(param.bbox_mean) and bool(param.bbox_std)
        self.mean = np.array(param.bbox_mean if given else [0] * 4, layer.dtype)
        self.std = np.array(param.bbox_std if given else [1] * 4, layer.dtype)
        if self.mean.size != 4 or self.std.size != 4 or not (self.std > 0).all():
            raise layer.error(
                f"bbox_reg_param must have four bbox_mean and four bbox_std above 0, got {list(param.bbox_mean)} and "
                f"{list(param.bbox_std)}"
            )

    def normalized(self, codes: np.ndarray) -> np.ndarray:
        """Return codes (..., 4) as a net learns them."""
        return (codes - self.mean) / self.std

    def restored(self, codes: np.ndarray) -> np.ndarray:
        """Return the codes (..., 4) of those that a net has computed."""
        return codes * self.std + self.mean


def edges(boxes: np.ndarray) -> np.ndarray:
    """Return boxes (..., 4) of pixels as corners (..., 4) of areas, which `boxes.suppress` takes: x2 + 1, y2 + 1."""
    return boxes + np.array([0, 0, 1, 1], boxes.dtype)


def pixel_overlaps(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Return the intersection over union (n, m) of boxes (n, 4) with others (m, 4)."""
    return overlaps(edges(these).T, edges(those).T)


def encode_pixels(boxes: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Return the codes (..., 4) of boxes relative to priors (..., 4): (dx / w, dy / h, log(w' / w), log(h' / h)) with
    dx, dy from the prior's centre to the box's, w, h of the prior, w', h' of the box.
    """
    (centre, size), (box_centre, box_size) = _centre_and_size(priors), _centre_and_size(boxes)
    return np.concatenate([(box_centre - centre) / size, np.log(box_size / size)], -1)


def decode_pixels(codes: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Return the boxes (..., 4) of codes (..., 4) relative to priors (..., 4).

    As in the original x2 is the centre + w / 2, without - 1, so x2 and y2 of a box that `encode_pixels` has encoded are
    decoded one pixel further.
    """
    centre, size = _centre_and_size(priors)
    centre, half = codes[..., :2] * size + centre, np.exp(codes[..., 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], -1)


def _centre_and_size(boxes: np.ndarray):
    size = boxes[..., 2:] - boxes[..., :2] + 1
    return boxes[..., :2] + size / 2, size
