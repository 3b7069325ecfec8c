"""Window files, as R-CNN writes them: regions of images, each with a class and its overlap with an object of it.

    # image_index
    path
    channels
    height
    width
    number of windows
    class overlap x1 y1 x2 y2          (one line per window; corners included)

Girshick et al., "Rich feature hierarchies for accurate object detection", 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minicaffe.data.image import read_image, resize
from minicaffe.data.reader import Batch
from minicaffe.errors import DataError
from minicaffe.random import Stream


@dataclass
class Window:
    """A region of an image; label 0 is background."""

    path: str
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


def read_windows(source: str, root_folder: str, fg_threshold: float, bg_threshold: float):
    """Foreground windows, background windows, and the number of channels of the images.

    A window is foreground from overlap fg_threshold on (its class must be above 0), background below bg_threshold.
    Raises `DataError` when the file is missing or ends early, or a line cannot be read.
    """
    try:
        with open(source, encoding="utf-8") as file:
            words = file.read().split()
    except OSError as error:
        raise DataError(f"cannot read window file {source}: {error.strerror or error}") from error
    foreground, background, channels, position = [], [], 0, 0
    try:
        while position < len(words):
            path, channels, count = _read_header(words, position)
            position += 7
            for _ in range(count):
                fields, position = words[position : position + 6], position + 6
                overlap, window = float(fields[1]), _window(root_folder + path, fields)
                if overlap >= fg_threshold:
                    if window.label <= 0:
                        raise ValueError(f"a foreground window of {path} has class {window.label}, expected above 0")
                    foreground.append(window)
                elif overlap < bg_threshold:
                    window.label = 0
                    background.append(window)
    except IndexError:
        raise DataError(f"window file {source} ends in the middle of an image") from None
    except ValueError as error:
        raise DataError(f"window file {source} cannot be read: {error}") from error
    if not channels:
        raise DataError(f"window file {source} is empty")
    return foreground, background, channels


def _read_header(words: list[str], position: int) -> tuple[str, int, int]:
    """Path, channels and number of windows of the image that starts at `position`."""
    if words[position] != "#":
        raise ValueError(f'expected "#", got {words[position]!r}')
    return words[position + 2], int(words[position + 3]), int(words[position + 6])


def _window(path: str, fields: list[str]) -> Window:
    label, _, *corners = fields
    return Window(path, int(label), int(corners[0]), int(corners[1]), int(corners[2]), int(corners[3]))


class Warper:
    """Cuts windows out and warps them to crop_size x crop_size.

    context_pad: how many pixels of context the warped picture shows on each side.  square: widen the window to a
    square first.  Where the window leaves the image, the result is 0, after mean and scale.
    mean: None, (C, 1, 1), or an image of at least crop_size, of which the centre counts.
    """

    def __init__(self, crop_size: int, context_pad: int, square: bool, mean: np.ndarray | None, scale: float) -> None:
        self.crop_size, self.context_pad, self.square, self.scale = crop_size, context_pad, square, scale
        self.mean = np.zeros((1, 1, 1), np.float32) if mean is None else mean
        if self.mean.shape[1] > 1:
            if min(self.mean.shape[1:]) < crop_size:
                raise DataError(f"the mean image, {self.mean.shape}, is smaller than crop_size {crop_size}")
            start = (self.mean.shape[2] - crop_size) // 2
            self.mean = self.mean[:, start : start + crop_size, start : start + crop_size]

    def __call__(self, image: np.ndarray, window: Window, mirror: bool) -> np.ndarray:
        """(C, crop_size, crop_size) float32."""
        size = self.crop_size
        (y1, y2), (x1, x2) = self._expand(window)
        _, height, width = image.shape
        top, bottom = self._span(y1, y2, height)
        left, right = self._span(x1, x2, width)
        part = image[:, max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1]
        if not part.size:
            raise DataError(
                f"a window of {window.path}, ({window.x1}, {window.y1}) to ({window.x2}, {window.y2}), "
                f"lies outside the image, {width}x{height}"
            )
        part = resize(part.astype(np.float32), bottom - top, right - left)
        if mirror:
            part = part[:, :, ::-1]
            left, right = size - right, size - left
        result = np.zeros((len(image), size, size), np.float32)
        mean = self.mean if self.mean.shape[1] == 1 else self.mean[:, top:bottom, left:right]
        result[:, top:bottom, left:right] = (part - mean) * self.scale
        return result

    def _expand(self, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the window with its context, which may leave the image."""
        rows, columns = (window.y1, window.y2), (window.x1, window.x2)
        if not self.context_pad and not self.square:
            return rows, columns
        half_h, half_w = (rows[1] - rows[0] + 1) / 2, (columns[1] - columns[0] + 1) / 2
        centre_y, centre_x = rows[0] + half_h, columns[0] + half_w
        if self.square:
            half_h = half_w = max(half_h, half_w)
        grow = self.crop_size / (self.crop_size - 2 * self.context_pad)
        return (
            (_round(centre_y - half_h * grow), _round(centre_y + half_h * grow)),
            (_round(centre_x - half_w * grow), _round(centre_x + half_w * grow)),
        )

    def _span(self, first: int, last: int, length: int) -> tuple[int, int]:
        """Where in 0 .. crop_size the part of first .. last that lies within the image ends up."""
        scale = self.crop_size / (last - first + 1)
        start = _round(max(0, -first) * scale)
        inside = min(last, length - 1) - max(first, 0) + 1
        stop = min(start + max(_round(inside * scale), 1), self.crop_size)
        return min(start, stop - 1), stop


def _round(value: float) -> int:
    """To the nearest whole number, halves away from zero, as C rounds."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


class WindowReader:
    """Batches of windows drawn at random: the background first, then `fg_fraction` of them foreground."""

    def __init__(
        self, param, source: str, batch_size: int, warper: Warper, mirror: bool, seed: int, cache_images: bool
    ) -> None:
        self.batch_size, self.warper, self.mirror = batch_size, warper, mirror
        self.foreground, self.background, self.channels = read_windows(
            source, param.root_folder, param.fg_threshold, param.bg_threshold
        )
        self._stream = Stream(seed)
        self._cache: dict[str, np.ndarray] | None = {} if cache_images else None
        self.number_foreground = int(np.float32(batch_size) * np.float32(param.fg_fraction))
        for kind, windows, count in (
            ("foreground", self.foreground, self.number_foreground),
            ("background", self.background, batch_size - self.number_foreground),
        ):
            if count and not windows:
                raise DataError(f"window file {source} has no {kind} windows, but every batch needs {count}")

    def first_shape(self) -> tuple[int, int, int]:
        return self.channels, self.warper.crop_size, self.warper.crop_size

    def position(self) -> dict:
        return self._stream.get_state()

    def seek(self, position: dict) -> None:
        self._stream = Stream(0)  # not the old one: after a fork its lock may be held by a thread that is not there
        self._stream.set_state(position)

    def read(self) -> Batch:
        draws = self._stream.uniform_u32(2 * self.batch_size).reshape(-1, 2)
        images, labels = (
            np.empty((self.batch_size, *self.first_shape()), np.float32),
            np.empty(self.batch_size, np.float32),
        )
        for i, (which, flip) in enumerate(draws.tolist()):
            windows = self.foreground if i >= self.batch_size - self.number_foreground else self.background
            window = windows[which % len(windows)]
            images[i] = self.warper(self._image(window.path), window, self.mirror and flip % 2 == 1)
            labels[i] = window.label
        return Batch(images, labels, self.position())

    def _image(self, path: str) -> np.ndarray:
        if self._cache is None:
            return read_image(path, self.channels == 3)
        if path not in self._cache:
            self._cache[path] = read_image(path, self.channels == 3)
        return self._cache[path]
