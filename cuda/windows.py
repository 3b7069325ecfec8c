"""Tables by which kernels find the elements of windows, for one pair of shapes; ``windows.cuh`` says what they hold.

A *plan* is one direction of a correlation: each window's sum of weighted elements of an image. Its *phases*:

- a forward pass has one;
- in the gradient of the data only those elements of a kernel contribute to a place of x whose distance has the same
  remainder modulo the stride, so there is one phase for each remainder, with its own elements and its own lattice of
  places, and no product with a zero is computed.

Which elements of a window lie outside the image is a matter of bits. Along an axis, elements that are outside for the
same windows are of one kind and have one bit; elements that never are outside have none. A window has the bits of what
is outside for it, and an element is read if it has none of them. There are `_BITS` bits for all axes together: an axis
that has more kinds (a large kernel with much padding) is divided, and the windows of each piece are a phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.tables import MOST_AXES, divisor, uploaded
from minicaffe.errors import DeviceError

_MOST = (1 << 31) - 1  # windows, and numbers of a sample: kernels index them with 32 bits
_MOST_ENTRIES = 1 << 26  # of the tables of elements: a gigabyte
_BITS = 30  # kinds of elements
_NEVER, _ALWAYS = 1 << 30, 1 << 31  # spare entries' bit, outside for all windows; all entries' bit, outside for none
STEP = 16  # channels that a step of a product takes, if each step takes one element of the windows
_SPARE = 64  # entries after the last one of a phase, read when a tile's last step is not full, and ahead of it


class Axis(NamedTuple):
    """One axis of a phase: windows, the elements that each has there, and where the results go."""

    count: int  # type: ignore[assignment]  # hides tuple.count
    origin: int  # of the first window in the image; negative in the padding
    step: int  # from one window to the next
    elements: tuple[int, ...]  # of the kernel
    distances: tuple[int, ...]  # of these elements from the window's origin
    out: int  # the place of the first window's result
    out_step: int

    def insides(self, size: int) -> np.ndarray:
        """For each element the windows [first, last) that have it inside an image of `size` places."""
        starts = self.origin + np.array(self.distances, np.int64)
        ends = np.stack([-(starts // self.step), (size - 1 - starts) // self.step + 1], 1)
        return ends.clip(0, self.count).reshape(-1, 2)

    def kinds(self, size: int) -> list[tuple[int, int]]:
        """The windows that have the elements of each kind inside; without the elements that all windows have inside."""
        found = np.unique(self.insides(size), axis=0)
        return [(first, last) for first, last in found.tolist() if (first, last) != (0, self.count)]

    def pieces(self, size: int, most: int) -> list[Axis]:
        """This axis, in as many pieces as necessary for each to have `most` kinds, without elements it has nowhere."""
        if len(self.kinds(size)) <= most:
            return [self]
        half = self.count // 2
        second = self.origin + half * self.step, self.out + half * self.out_step
        halves = [self._replace(count=half), self._replace(count=self.count - half, origin=second[0], out=second[1])]
        found = []
        for piece in halves:
            used = np.flatnonzero(np.diff(piece.insides(size))[:, 0] > 0).tolist()
            elements, distances = ([of[i] for i in used] for of in (self.elements, self.distances))
            found += piece._replace(elements=tuple(elements), distances=tuple(distances)).pieces(size, most)
        return found


class Plan(NamedTuple):
    """Device tables of one direction for one pair of shapes, and their sizes."""

    tables: DeviceBuffer
    groups: int
    channels: int  # of a group of the result
    image_channels: int  # of a group of the image
    windows: tuple[int, ...]  # of each phase, over all samples
    depths: tuple[int, ...]  # elements of a window of each phase, in all channels
    places: int  # of a channel of the result
    count: int  # type: ignore[assignment]  # of the whole result; hides tuple.count
    pointwise: bool  # each window is the place of the image where its result goes
    adjacent: bool  # the results of adjacent windows are adjacent


def forward(window: Any, group: int, x_shape: tuple, y_shape: tuple) -> Plan:
    """The windows of y over x, both (N, C, *size) with MOST_AXES spatial axes; `window` has as many."""
    axes = [
        [Axis(count, -pad, stride, tuple(range(kernel)), tuple(j * dilation for j in range(kernel)), 0, 1)]
        for count, kernel, stride, pad, dilation in zip(y_shape[2:], *window, strict=True)
    ]
    channels, elements = x_shape[1] // group, math.prod(window.kernel)
    strides = elements, channels * elements, y_shape[1] // group * channels * elements
    return _plan(group, window.kernel, x_shape, y_shape, axes, *strides)


def data(window: Any, group: int, x_shape: tuple, y_shape: tuple) -> Plan:
    """The windows of x over y that the gradient with respect to x sums."""
    axes = [_remainders(size, *axis) for size, *axis in zip(x_shape[2:], *window, strict=True)]
    channels, elements = x_shape[1] // group, math.prod(window.kernel)
    strides = channels * elements, elements, y_shape[1] // group * channels * elements
    return _plan(group, window.kernel, y_shape, x_shape, axes, *strides)


def _remainders(size: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Axis]:
    """The phases along one axis of x that are not empty."""
    found = []
    for remainder in range(stride):
        first = (remainder - pad) % stride  # the smallest place i with (i + pad) % stride == remainder
        if first < size:
            elements = tuple(j for j in range(kernel) if (j * dilation - remainder) % stride == 0)
            distances = tuple((remainder - j * dilation) // stride for j in elements)
            origin = (first + pad - remainder) // stride  # the window at distance 0 of the first place
            found.append(Axis(-(-(size - first) // stride), origin, 1, elements, distances, first, stride))
    return found


def _plan(
    group: int, kernel: tuple, in_shape: tuple, out_shape: tuple, axes: list, along: int, row: int, per_group: int
) -> Plan:
    """Lay out the tables; `axes` are the phases along each axis.

    along, row, per_group: the weights from one channel of the image, of the result, and one group to the next.
    """
    size, result = in_shape[2:], out_shape[2:]
    image_channels, channels = in_shape[1] // group, out_shape[1] // group
    image_places, places = math.prod(size), math.prod(result)
    _check("numbers in a sample", max(math.prod(in_shape[1:]), math.prod(out_shape[1:])))
    phases: list[list[int]] = []
    taps, weights, outside, steps = ([], [], [], [])  # type: tuple[list, list, list, list]
    all_parts = _divided(axes, size)
    entries = image_channels * sum(math.prod(len(axis.elements) for axis in parts) for parts in all_parts)
    _check("entries in its tables of windows", entries, _MOST_ENTRIES)
    for parts in all_parts:
        counts = [axis.count for axis in parts]
        needs, bits = zip(*_bits(parts, size))
        offsets = _along_all([axis.distances for axis in parts], size)
        begins = np.cumsum([sum(len(table) for table in outside), *counts])[:3].tolist()
        outside += bits
        begins = [sum(len(table) for table in weights), sum(len(table) for table in steps), *begins]
        taps.append(_taps(image_channels, image_places, offsets, _combined(needs)))
        weights.append(_weights(image_channels, along, _along_all([axis.elements for axis in parts], kernel)))
        steps.append(_steps(image_channels, offsets.size, taps[-1], weights[-1]))
        windows = in_shape[0] * math.prod(counts)
        _check("windows in a batch", windows)
        divisors = [divisor(max(math.prod(counts[i:]), 1)) for i in range(MOST_AXES)]
        origin = _lattice([axis.origin for axis in parts], [axis.step for axis in parts], size)
        out = _lattice([axis.out for axis in parts], [axis.out_step for axis in parts], result)
        phases.append(
            [windows, *begins[:2], image_channels * offsets.size, *sum(divisors, ()), *origin, *begins[2:], *out]
        )
    head = [group, len(phases), image_places, image_channels * image_places, math.prod(in_shape[1:])]
    head += [channels, places, channels * places, math.prod(out_shape[1:]), row, per_group, along]
    single = len(phases) == 1 and all(axis.count == n and axis.out_step == 1 for axis, n in zip(all_parts[0], result))
    pointwise = single and size == result and all(axis[1:5] == (0, 1, (0,), (0,)) for axis in all_parts[0])
    return Plan(
        _upload(head, phases, taps, weights, outside, steps),
        group,
        channels,
        image_channels,
        tuple(phase[0] for phase in phases),
        tuple(phase[3] for phase in phases),
        places,
        math.prod(out_shape),
        pointwise,
        single,
    )


def _divided(axes: list[list[Axis]], size: tuple) -> list[tuple[Axis, ...]]:
    """The phases: one of each axis, in pieces where there are too many kinds of elements."""
    found: list[tuple[Axis, ...]] = []
    for parts in product(*axes):
        kinds = [len(axis.kinds(n)) for axis, n in zip(parts, size)]
        most = _BITS if sum(kinds) <= _BITS else _BITS // sum(count > 0 for count in kinds)
        found += product(*(axis.pieces(n, most) for axis, n in zip(parts, size)))
    return found


def _bits(parts: Sequence[Axis], size: tuple) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each axis the bits of its elements, and of what is outside for its windows."""
    found, used = [], 0
    for axis, n in zip(parts, size):
        bit = {kind: 1 << (used + i) for i, kind in enumerate(axis.kinds(n))}
        used += len(bit)
        outside = np.full(axis.count, _NEVER, np.int64)
        for (first, last), value in bit.items():
            outside[:first] |= value
            outside[last:] |= value
        needs = [bit.get(tuple(ends), 0) | _ALWAYS for ends in axis.insides(n).tolist()]
        found.append((np.array(needs, np.int64), outside))
    return found


def _combined(needs: Sequence[np.ndarray]) -> np.ndarray:
    """The bits of all elements of a window, in reading order."""
    return (needs[0][:, None, None] | needs[1][:, None] | needs[2]).reshape(-1)


def _along_all(steps: Sequence[Sequence[int]], size: Sequence[int]) -> np.ndarray:
    """The distances in memory, in an array of this size, of all combinations of steps along the axes."""
    z, y, x = (np.array(along, np.int64) for along in steps)
    return ((z[:, None, None] * size[1] + y[:, None]) * size[2] + x).reshape(-1)


def _lattice(first: Sequence[int], steps: Sequence[int], size: Sequence[int]) -> list[int]:
    """The place of a lattice's first point in memory, and the distance of the next one along each axis."""
    strides = size[1] * size[2], size[2], 1
    return [sum(f * s for f, s in zip(first, strides)), *(step * s for step, s in zip(steps, strides))]


def _taps(channels: int, places: int, offsets: np.ndarray, needs: np.ndarray) -> np.ndarray:
    """The elements of a window in all channels, and spare ones that are never read."""
    table = np.empty((channels * offsets.size + _SPARE, 2), np.int64)
    table[:, 0], table[:, 1] = 0, _NEVER
    table[:-_SPARE, 0] = (np.arange(channels)[:, None] * places + offsets).reshape(-1)
    table[:-_SPARE, 1] = np.tile(needs, channels)
    _check("numbers from one end of a window to the other", int(np.abs(table[:, 0]).max(initial=0)))
    return table


def _weights(channels: int, along: int, elements: np.ndarray) -> np.ndarray:
    """The places of the elements' weights in a row; -1 for spare ones."""
    table = (np.arange(channels)[:, None] * along + elements).reshape(-1)
    return np.append(table, np.full(_SPARE, -1))


def _steps(channels: int, elements: int, taps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The elements of a window once for each `STEP` channels, and spare ones; none unless it divides the channels."""
    if channels % STEP:
        return np.empty((0, 4), np.int64)
    rows = np.concatenate([taps[:-_SPARE], weights[:-_SPARE, None]], 1).reshape(channels // STEP, STEP, elements, 3)[
        :, 0
    ]
    rows = np.concatenate([rows.reshape(-1, 3), np.tile([[0, _NEVER, -1]], (_SPARE // STEP, 1))])
    return np.pad(rows, ((0, 0), (0, 1)))


def _check(what: str, count: int, most: int = _MOST) -> None:
    if count > most:
        raise DeviceError(f"convolution on the GPU: expected at most {most} {what}, got {count}")


def _upload(head: list[int], *tables: list) -> DeviceBuffer:
    """The head and the tables as 32-bit numbers on the device, each table at a multiple of 16 bytes."""
    rows = [np.concatenate([np.asarray(row, np.int64).reshape(-1) for row in [[], *table]]) for table in tables]
    rows = [np.append(row, np.zeros(-len(row) % 4)) for row in rows]
    begin = len(head) + len(tables)
    begin += -begin % 4
    begins = [begin + sum(map(len, rows[:i])) for i in range(len(rows))]
    array = np.zeros(begin + sum(map(len, rows)), np.int64)
    array[: len(head) + len(tables)] = head + begins
    array[begin:] = np.concatenate(rows)
    return uploaded(array)
