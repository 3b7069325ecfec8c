"""OpenCV's `resize` in numpy, to the bit: LINEAR, CUBIC, NEAREST, AREA and LANCZOS4, of uint8 and float32 pictures.

Weights of uint8 pictures are rounded to 1/2048.  Columns are interpolated first, then rows:

    s = sum of x[j] * a[j]          integers, exact
    y = sum of s[i] * b[i] / 2^22   LINEAR cuts off bits of each product: (b (s >> 4) >> 16, summed, + 2) >> 2;
                                    CUBIC sums in float32 where there are 8 values for the vector unit, in integers
                                    in what remains of a row, so the channels must be interleaved as there

AREA and float32 pictures are sums in float32.  The order of each sum is that of OpenCV's code for SSE without fused
multiply-add and without Intel's IPP (`OPENCV_IPP=disabled`), whose CUBIC differs by 1 grey level; equal to cv2 5.0 in
thousands of random sizes, and to 4.6 in the pictures of the SSD fork's tests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from minicaffe.data.taps import Taps, areas, interpolation, nearest, step_of

MODES = ("NEAREST", "LINEAR", "CUBIC", "AREA", "LANCZOS4")

_BLOCK = 1 << 15  # values of the result per block of rows, so that all that belongs to it stays in the cache
_KEPT = 1 << 13  # taps of a plan that is kept
_BITS = 11  # binary places of a weight for uint8

Rows = Callable[[list[np.ndarray], np.ndarray], np.ndarray]  # (taps' rows, their weights (taps, rows)) to new rows


def depends_on_layout(mode: str, channels: int, dtype: np.dtype) -> bool:
    """Whether values depend on how channels are interleaved, so that planes cannot be resampled one by one."""
    return mode == "CUBIC" or channels == 2 or (dtype != np.uint8 and mode != "NEAREST")


def resample(pixels: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Resize contiguous planes of pixels (P, H, W, C), uint8 or float32, to (P, height, width, C).

    Channels are interleaved (P = 1) or planes (C = 1).  mode: one of MODES.
    """
    planes, old_h, old_w, channels = pixels.shape
    if mode == "NEAREST":
        return pixels.take(nearest(old_h, height), 1).take(nearest(old_w, width), 2)
    result = np.empty((planes, height, width, channels), pixels.dtype)
    lines, out = pixels.reshape(planes * old_h, -1), result.reshape(planes * height, -1)
    steps = step_of(old_h, height), step_of(old_w, width)
    factors = round(steps[0]), round(steps[1])
    whole = all(abs(step - factor) < np.finfo(np.float64).eps for step, factor in zip(steps, factors))
    if whole and (mode == "AREA" or (mode == "LINEAR" and factors == (2, 2))):
        _average(lines, out, factors, channels)
        return result
    plan = _kept_plan if width * channels + len(out) <= _KEPT else _plan
    _separable(lines, out, *plan((old_h, height), (old_w, width), mode, planes, channels, pixels.dtype))
    return result


def scaled(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Resize contiguous pixels (H, W, C), float32, by a factor, LINEAR: `cv2.resize` with fx = fy = scale.

    New samples are placed by the factor; `resample` places them by the ratio of the sizes, which are whole numbers.
    Equal to the bit, except in the last one where an odd size is halved.
    """
    (old_h, old_w, channels), step = pixels.shape, 1 / scale
    height, width = (max(1, round(side * scale)) for side in (old_h, old_w))
    if (old_h, old_w) == (2 * height, 2 * width):
        return resample(pixels[None], height, width, "LINEAR")[0]
    result = np.empty((height, width, channels), pixels.dtype)
    rows = interpolation(old_h, height, "LINEAR", False, step)
    columns = _of_channels(interpolation(old_w, width, "LINEAR", True, step), channels)
    _separable(pixels.reshape(old_h, -1), result.reshape(height, -1), rows, columns, _summed)
    return result


def _plan(
    heights: tuple[int, int], widths: tuple[int, int], mode: str, planes: int, channels: int, dtype: np.dtype
) -> tuple[Taps, Taps, Rows]:
    """Return the taps of the lines and of their values, and the sum of lines; heights, widths: (old, new)."""
    if mode == "AREA" and step_of(*heights) >= 1 and step_of(*widths) >= 1:
        rows, columns, kernel = areas(*heights), areas(*widths), _summed
    else:
        rows, columns = interpolation(*heights, mode, False), interpolation(*widths, mode, True)
        kernel = _summed if len(rows.weight) == 2 else _vector_floats
        if dtype == np.uint8:
            rows, columns = _fixed(rows), _fixed(columns)
            kernel = {"CUBIC": _cubic_bytes, "LANCZOS4": _integer_bytes}.get(mode, _linear_bytes)
    return _of_planes(rows, planes, heights[0]), _of_channels(columns, channels), kernel


_kept_plan = functools.lru_cache(maxsize=32)(_plan)  # for images of one size, and small ones


def _of_planes(taps: Taps, planes: int, height: int) -> Taps:
    """Return the taps of the lines of planes of one height."""
    if planes == 1:
        return taps
    index = taps.old[:, None] + np.arange(planes)[:, None] * height
    return Taps(index.reshape(len(index), -1), np.tile(taps.weight, planes))


def _of_channels(taps: Taps, channels: int) -> Taps:
    """Return the taps of the values of a row of interleaved channels."""
    index = taps.old[:, :, None] * channels + np.arange(channels)
    return Taps(index.reshape(len(index), -1), taps.weight.repeat(channels, 1))


def _fixed(taps: Taps) -> Taps:
    """Return taps with integer weights."""
    return Taps(taps.old, np.rint(taps.weight * np.float32(1 << _BITS)).astype(np.int32))


def _blocks(out: np.ndarray) -> Iterator[slice]:
    step = max(1, _BLOCK // max(1, out.shape[1]))
    return (slice(y, min(y + step, len(out))) for y in range(0, len(out), step))


def _separable(lines: np.ndarray, out: np.ndarray, rows: Taps, columns: Taps, kernel: Rows) -> None:
    """Resample lines (H, W * C): columns of each old row that is needed, then rows, a block of new rows at a time."""
    for block in _blocks(out):
        index = rows.old[:, block]
        first, last = index.min(), index.max() + 1
        if last - first <= index.size:
            old, place = lines[first:last], index - first
        else:
            old, place = lines[index.ravel()], np.arange(index.size).reshape(index.shape)
        summed = np.multiply(old.take(columns.old[0], 1), columns.weight[0], dtype=columns.weight.dtype)
        for at, weight in zip(columns.old[1:], columns.weight[1:]):
            summed += np.multiply(old.take(at, 1), weight, dtype=weight.dtype)
        new = kernel([summed.take(at, 0) for at in place], rows.weight[:, block, None])
        _store(new, out[block])


def _store(values: np.ndarray, out: np.ndarray) -> None:
    """Write values, rounded and clipped if `out` is uint8 and they are floats."""
    if out.dtype == np.uint8:
        if values.dtype != np.int32:
            np.rint(values, out=values)
        np.clip(values, 0, 255, out=values)
    np.copyto(out, values, casting="unsafe")


def _linear_bytes(lines: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the sum of two lines, of whose products bits are cut off; overwrites the lines."""
    for line, weight in zip(lines, weights):
        line >>= 4
        line *= weight
        line >>= 16
    total = lines[0]
    total += lines[1]
    total += 2
    total >>= 2
    return total


def _cubic_bytes(lines: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum of lines, rounded: in float32 as far as there are 8 values, then in integers."""
    vectors = lines[0].shape[1] // 8 * 8
    scaled = weights.astype(np.float32) * np.float32(2.0 ** (-2 * _BITS))
    head = _backwards([line[:, :vectors].astype(np.float32) for line in lines], scaled)
    result = np.empty_like(lines[0])
    result[:, :vectors] = np.rint(head, out=head)
    result[:, vectors:] = _integer_bytes([line[:, vectors:] for line in lines], weights)
    return result


def _integer_bytes(lines: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum of lines in integers, rounded."""
    total = _summed(lines, weights)
    total += 1 << 2 * _BITS - 1
    total >>= 2 * _BITS
    return total


def _vector_floats(lines: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum of lines of float32, from the end as far as there are 4 values."""
    vectors = lines[0].shape[1] // 4 * 4
    head, rest = ([line[:, part] for line in lines] for part in (slice(vectors), slice(vectors, None)))
    return np.concatenate([_backwards(head, weights), _summed(rest, weights)], 1)


def _summed(lines: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum of lines, the first two added first."""
    total = lines[0] * weights[0]
    for line, weight in zip(lines[1:], weights[1:]):
        total += line * weight
    return total


def _backwards(lines: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum of lines, the last two added first, as the vector code does."""
    return _summed(lines[::-1], weights[::-1])


def _average(lines: np.ndarray, out: np.ndarray, factors: tuple[int, int], channels: int) -> None:
    """Average blocks of factors[0] x factors[1] old pixels."""
    down, across = factors
    width = out.shape[1] // channels
    first = (np.arange(width)[:, None] * across * channels + np.arange(channels)).ravel()
    new: np.ndarray
    for block in _blocks(out):
        rows = lines[block.start * down : block.stop * down]
        if out.dtype == np.uint8:
            high = sum((rows[y::down] for y in range(1, down)), rows[::down].astype(np.int32))
            total = sum((high.take(first + x * channels, 1) for x in range(1, across)), high.take(first, 1))
            if factors == (2, 2) and channels in (1, 3, 4):
                new = total + 2 >> 2
            else:
                new = total.astype(np.float32) * np.float32(1 / (down * across))
        else:
            parts = [rows[y::down].take(first + x * channels, 1) for y in range(down) for x in range(across)]
            total = _pairs(parts) if factors == (2, 2) and channels in (1, 4) else _fours(parts)
            new = total * np.float32(1 / len(parts))
        _store(new, out[block])


def _fours(parts: list[np.ndarray]) -> np.ndarray:
    """Return the sum of float32 arrays in groups of four, each summed from the left."""
    total = np.zeros_like(parts[0])
    whole = len(parts) // 4 * 4
    for i in range(0, whole, 4):
        total += parts[i] + parts[i + 1] + parts[i + 2] + parts[i + 3]
    for part in parts[whole:]:
        total += part
    return total


def _pairs(parts: list[np.ndarray]) -> np.ndarray:
    """Return the sum of four float32 arrays: in pairs, as the vector unit does; the rest of each row from the left."""
    total, vectors = _fours(parts), parts[0].shape[1] // 4 * 4
    total[:, :vectors] = (parts[0] + parts[1] + (parts[2] + parts[3]))[:, :vectors]
    return total
