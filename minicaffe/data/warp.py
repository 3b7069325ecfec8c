"""Pictures under an affine or projective map: each pixel of the result is interpolated where it comes from.

As OpenCV's `warpPerspective`, with exact positions where that rounds them to 1/32 pixel: bytes differ by a few levels
at sharp edges.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from minicaffe.data.taps import weights_of

Border = Literal["constant", "reflect", "edge"]


def rotation(degrees: float, height: int, width: int) -> np.ndarray:
    """Return the map of positions (x, y, 1) of a picture that was turned, counterclockwise, to those before, (3, 3)."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = width // 2, height // 2
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return shift(x, y) @ turn @ shift(-x, -y)


def shift(x: float, y: float) -> np.ndarray:
    """Return the map that moves positions (x, y, 1)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def warp(image: np.ndarray, source: np.ndarray, mode: str, border: Border, values: np.ndarray) -> np.ndarray:
    """Return a picture (C, H, W), uint8 or float32, of the same size and type.

    source: (3, 3), the map of positions (x, y, 1) of the result to those in `image`.  mode: one of `resample.MODES`;
    AREA is LINEAR.  border: what is outside; values: (C,) or (1,), of "constant".
    """
    channels, height, width = image.shape
    at = source @ np.stack([*np.mgrid[:height, :width][::-1].reshape(2, -1), np.ones(height * width)])
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = np.nan_to_num(at[:2] / at[2], posinf=1e9, neginf=-1e9).clip(-1e6, 1e6)
    (columns, across), (rows, down) = _taps(x, mode), _taps(y, mode)
    fill = np.broadcast_to(np.asarray(values, np.float32), channels)[:, None]
    result = np.zeros((channels, height * width), np.float32)
    for row, weight in zip(rows, down):
        line = np.zeros_like(result)
        for column, share in zip(columns, across):
            pixels = image[:, _inside(row, height, border), _inside(column, width, border)].astype(np.float32)
            if border == "constant":
                pixels = np.where((row >= 0) & (row < height) & (column >= 0) & (column < width), pixels, fill)
            line += pixels * share
        result += line * weight
    if image.dtype == np.uint8:
        result = np.rint(result).clip(0, 255)
    return result.astype(image.dtype).reshape(image.shape)


def bilinear(image: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the values (C, ...) of a picture (C, H, W) at positions (...) inside of it, by linear interpolation."""
    (left, across), (top, down) = ((np.floor(at).astype(np.intp), at - np.floor(at)) for at in (columns, rows))
    right, below = np.minimum(left + 1, image.shape[2] - 1), np.minimum(top + 1, image.shape[1] - 1)
    upper = (1 - across) * image[:, top, left] + across * image[:, top, right]
    lower = (1 - across) * image[:, below, left] + across * image[:, below, right]
    return (1 - down) * upper + down * lower


def _taps(at: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers (taps, n) and the weights of the pixels around positions."""
    if mode == "NEAREST":
        return np.rint(at).astype(np.intp)[None], np.ones((1, len(at)), np.float32)
    low = np.floor(at)
    weights = weights_of((at - low).astype(np.float32), mode)
    return low.astype(np.intp) - (len(weights) // 2 - 1) + np.arange(len(weights))[:, None], weights


def _inside(at: np.ndarray, size: int, border: Border) -> np.ndarray:
    """Return the pixel whose value each place has, which may be outside."""
    if border == "reflect" and size > 1:
        period = 2 * size - 2
        return size - 1 - np.abs(at % period - (size - 1))
    return at.clip(0, size - 1)
