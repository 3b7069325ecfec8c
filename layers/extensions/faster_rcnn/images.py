"""Images as py-faster-rcnn's networks read them: the mean subtracted, the shorter side scaled to a given length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def image_scale(height: int, width: int, target: float, most: float) -> float:
    """Return the factor by which an image is scaled: its shorter side to `target`, the longer to at most `most`."""
    scale = float(target) / min(height, width)
    return float(most) / max(height, width) if np.round(scale * max(height, width)) > most else scale


def prepared(pixels: np.ndarray, means: Sequence[float], target: float, most: float) -> tuple[np.ndarray, float]:
    """Return an image (C, H, W), BGR, less the means of its channels and scaled, as float32, and its scale."""
    image = pixels.astype(np.float32) - np.array(means, np.float64).reshape(-1, 1, 1)
    scale = image_scale(*image.shape[1:], target, most)
    return scaled(image.astype(np.float32), scale), scale


def scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Return float32 (C, h, w) of an image (C, H, W), linear, as `cv2.resize` with fx = fy = scale computes it.

    Pixel centres are mapped by the scale, not by the ratio of the new size, which is rounded, to the old one.
    """
    rows, row_weights = _taps(image.shape[1], scale)
    columns, column_weights = _taps(image.shape[2], scale)
    inner = sum(image[:, :, index] * weight for index, weight in zip(columns, column_weights))
    return sum(inner[:, index] * weight[:, None] for index, weight in zip(rows, row_weights))


def _taps(old: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the two old samples (2, new) between which each new one is, and their weights (2, new), float32."""
    position = np.clip((np.arange(max(1, round(old * scale))) + 0.5) / scale - 0.5, 0, old - 1)
    first = np.floor(position).astype(int)
    far = (position - first).astype(np.float32)
    return np.stack([first, np.minimum(first + 1, old - 1)]), np.stack([1 - far, far])


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return images (C, h, w) of several sizes as one array (N, C, H, W), filled up with 0 on the right and below."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    batch = np.zeros((len(images), images[0].shape[0], height, width), np.float32)
    for whole, image in zip(batch, images):
        whole[:, : image.shape[1], : image.shape[2]] = image
    return batch
