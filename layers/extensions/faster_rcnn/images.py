"""Images as py-faster-rcnn's networks read them: the mean subtracted, the shorter side scaled to a given length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.resample import scaled


def image_scale(height: int, width: int, target: float, most: float) -> float:
    """Return the factor by which an image is scaled: its shorter side to `target`, the longer to at most `most`."""
    scale = float(target) / min(height, width)
    return float(most) / max(height, width) if np.round(scale * max(height, width)) > most else scale


def prepared(pixels: np.ndarray, means: Sequence[float], target: float, most: float) -> tuple[np.ndarray, float]:
    """Return an image (C, H, W), BGR, less the means of its channels and scaled, as float32, and its scale."""
    image = (pixels.transpose(1, 2, 0).astype(np.float32) - np.array(means, np.float64)).astype(np.float32)
    scale = image_scale(image.shape[0], image.shape[1], target, most)
    return scaled(np.ascontiguousarray(image), scale).transpose(2, 0, 1), scale


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return images (C, h, w) of several sizes as one array (N, C, H, W), filled up with 0 on the right and below."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    batch = np.zeros((len(images), images[0].shape[0], height, width), np.float32)
    for whole, image in zip(batch, images):
        whole[:, : image.shape[1], : image.shape[2]] = image
    return batch
