"""Equalization of the histogram of planes (H, W) uint8, as OpenCV does it, to the bit: whole, or by tiles (CLAHE)."""

from __future__ import annotations

import numpy as np

_TILES = 8  # along each side
_VALUES = 256


def equalize_histogram(plane: np.ndarray) -> np.ndarray:
    """Map values so that their cumulative histogram becomes straight; equal to `cv2.equalizeHist`."""
    counts = np.bincount(plane.ravel(), minlength=_VALUES)
    lowest = np.flatnonzero(counts)[0]
    if counts[lowest] == plane.size:
        return plane.copy()
    scale = np.float32(255) / np.float32(plane.size - counts[lowest])
    above = np.cumsum(counts) - counts[lowest]
    above[: lowest + 1] = 0
    return np.rint(above.astype(np.float32) * scale).astype(np.uint8)[plane]


def clahe(plane: np.ndarray, clip: float) -> np.ndarray:
    """Equalize by 8 x 8 tiles, with limited contrast, interpolated between the tiles' centres; as `cv2.createCLAHE`.

    clip: limit of a histogram's counts, in multiples of their mean.
    Source: Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994.
    """
    height, width = plane.shape
    padded = plane
    if height % _TILES or width % _TILES:  # a side that needs no padding gets 8 pixels, as there
        padded = np.pad(plane, [(0, _TILES - height % _TILES), (0, _TILES - width % _TILES)], "reflect")
    size = padded.shape[0] // _TILES, padded.shape[1] // _TILES
    tiles = padded.reshape(_TILES, size[0], _TILES, size[1]).transpose(0, 2, 1, 3).reshape(_TILES, _TILES, -1)
    limit = max(1, int(clip * tiles.shape[2] / _VALUES))
    tables = np.array([[_limited_table(tile, limit) for tile in row] for row in tiles])
    top, bottom, down, up = (axis[:, None] for axis in _between_tiles(height, size[0]))
    left, right, far, near = _between_tiles(width, size[1])
    upper = tables[top, left, plane] * near + tables[top, right, plane] * far
    lower = tables[bottom, left, plane] * near + tables[bottom, right, plane] * far
    return np.rint(upper * up + lower * down).astype(np.uint8)


def _limited_table(tile: np.ndarray, limit: int) -> np.ndarray:
    """Return the new value of each value, (256,) float32; counts above the limit are spread over all values."""
    counts = np.bincount(tile, minlength=_VALUES)
    spare = int(np.maximum(counts - limit, 0).sum())
    counts = np.minimum(counts, limit) + spare // _VALUES
    rest = spare % _VALUES
    if rest:
        counts[np.arange(0, _VALUES, max(_VALUES // rest, 1))[:rest]] += 1
    scale = np.float32(_VALUES - 1) / np.float32(tile.size)
    return np.rint(np.cumsum(counts).astype(np.float32) * scale).clip(0, 255)


def _between_tiles(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return for each pixel of a side the tiles before and after it, and the weights of the second and the first."""
    at = np.arange(length, dtype=np.float32) * (np.float32(1) / np.float32(size)) - np.float32(0.5)
    before = np.floor(at)
    part = at - before
    index = before.astype(np.intp)
    return index.clip(min=0), (index + 1).clip(max=_TILES - 1), part, 1 - part
