"""Positions and weights of interpolation along an axis, in the float arithmetic of OpenCV's `resize`.

A new sample is a weighted sum of a few old samples, its taps.  Every float32 operation is that of OpenCV, in its order,
so the weights are equal to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_CUBIC = np.float32(-0.75)  # the free coefficient of the cubic kernel; Catmull-Rom has -0.5
_HALF_ROOT = 0.70710678118654752440084436210485
_OCTANTS = (  # (sine, cosine) of the eight taps' phases, -i pi / 4 and the sign of a tap
    (1, 0), (-_HALF_ROOT, -_HALF_ROOT), (0, 1), (_HALF_ROOT, -_HALF_ROOT),
    (-1, 0), (_HALF_ROOT, _HALF_ROOT), (0, -1), (-_HALF_ROOT, _HALF_ROOT),
)  # fmt: skip


class Taps(NamedTuple):
    """Taps of an axis; samples outside the picture are those of its edge."""

    old: np.ndarray  #: (taps, new), the numbers of the old samples
    weight: np.ndarray  #: (taps, new) float32


def step_of(old: int, new: int) -> float:
    """Return the old samples per new sample, rounded twice, as there: the reciprocal of `new / old`."""
    return 1.0 / (new / old)


def nearest(old: int, new: int) -> np.ndarray:
    """Return the old sample of each new sample, (new,): INTER_NEAREST takes that on the left."""
    return np.floor(np.arange(new) * step_of(old, new)).astype(np.intp).clip(max=old - 1)


def interpolation(old: int, new: int, mode: str, columns: bool, step: float | None = None) -> Taps:
    """Return the taps of LINEAR, CUBIC, LANCZOS4, or of AREA where a picture is enlarged.

    step: old samples per new one, not for AREA; None (default): the ratio of the sizes.
    columns: whether the axis is the horizontal one, where linear weights outside the centres of the first and last
    samples are exactly 0 and 1; vertically they are those of two equal rows.
    """
    at, part = _enlarged_areas(old, new) if mode == "AREA" else _centres(new, step or step_of(old, new))
    if mode in ("LINEAR", "AREA"):
        if columns:
            part = np.where((at < 0) | (at >= old - 1), np.float32(0), part)
            at = at.clip(0, old - 1)
    weight = weights_of(part, mode)
    first = at - (len(weight) // 2 - 1)
    return Taps((first + np.arange(len(weight))[:, None]).clip(0, old - 1), weight)


def weights_of(part: np.ndarray, mode: str) -> np.ndarray:
    """Return the weights (taps, new) of LINEAR, AREA where a picture is enlarged, CUBIC or LANCZOS4.

    part: the distances from the samples below, float32, in [0, 1).
    """
    if mode in ("LINEAR", "AREA"):
        return np.stack([1 - part, part])
    return _cubic(part) if mode == "CUBIC" else _lanczos(part)


def areas(old: int, new: int) -> Taps:
    """Return the taps of AREA where a picture is reduced: the share of each old sample in the new one.

    Shares of samples cut by a border are left out below 1/1000, as there.  Missing taps have weight 0.
    """
    step = step_of(old, new)
    start = np.arange(new) * step
    stop = start + step
    size = np.minimum(step, old - start)
    last = np.minimum(np.floor(stop), old - 1).astype(np.intp)
    whole = np.minimum(np.ceil(start).astype(np.intp), last)
    has_first, has_last = whole - start > 1e-3, stop - last > 1e-3
    at = (whole - has_first) + np.arange((last + has_last - whole + has_first).max())[:, None]
    share = np.where(at < whole, whole - start, np.where(at < last, 1.0, np.minimum(np.minimum(stop - last, 1), size)))
    share[(at > last) | ((at == last) & ~has_last)] = 0
    return Taps(at.clip(0, old - 1), (share / size).astype(np.float32))


def _centres(new: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the old sample below each new centre, and the distance from it, float32."""
    at = ((np.arange(new) + 0.5) * step - 0.5).astype(np.float32)
    low = np.floor(at)
    return low.astype(np.intp), at - low


def _enlarged_areas(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the old sample where each new one begins, and its share of the next old one, float32."""
    low = np.floor(np.arange(new) * step_of(old, new)).astype(np.intp)
    part = (np.arange(1, new + 1) - (low + 1) * (new / old)).astype(np.float32)
    return low, np.where(part <= 0, np.float32(0), part - np.floor(part))


def _cubic(x: np.ndarray) -> np.ndarray:
    """Return the weights of the cubic kernel, (4, new), for distances x in [0, 1)."""
    a, one, y = _CUBIC, x + 1, 1 - x
    first = ((a * one - 5 * a) * one + 8 * a) * one - 4 * a
    second = ((a + 2) * x - (a + 3)) * x * x + 1
    third = ((a + 2) * y - (a + 3)) * y * y + 1
    return np.stack([first, second, third, 1 - first - second - third])


def _lanczos(x: np.ndarray) -> np.ndarray:
    """Return the weights of the Lanczos kernel with 4 lobes, (8, new), for distances x in [0, 1)."""
    phase = -(x + 3).astype(np.float64) * np.pi * 0.25
    sine, cosine, total, weights = np.sin(phase), np.cos(phase), np.zeros_like(x), []
    for tap, (s, c) in enumerate(_OCTANTS):
        distance = x + 3 - tap
        angle = np.where(distance, -distance.astype(np.float64) * np.pi * 0.25, 1)
        weight = (s * sine + c * cosine) / (angle * angle)
        weights.append(np.where(np.abs(distance) >= np.float32(1e-6), weight, 1e30).astype(np.float32))
        total = total + weights[-1]
    return np.stack(weights) * (1 / total)
