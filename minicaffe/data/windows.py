"""Window files of R-CNN: regions of images, each with a class and its overlap with an object of that class.

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
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minicaffe.data.image import read_image, read_pixels, resize
from minicaffe.data.image_list import int32
from minicaffe.data.reader import Batch
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.text import quoted, read_text


@dataclass(slots=True)
class ImageWindow:
    """A region of an image, corners included, in pixels; label 0 is background."""

    path: str
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


class Words:
    """Tokenizer of a window file; errors give the line number."""

    def __init__(self, source: str) -> None:
        lines = read_text(source, "window file").split("\n")
        self._words = ((word, number) for number, line in enumerate(lines, 1) for word in line.split())
        self.source, self._line = source, 0
        self._next = next(self._words, None)

    @property
    def next(self) -> str | None:
        """The next word, without advancing; None at the end of the file."""
        return self._next[0] if self._next else None

    def take(self) -> str:
        """Return the next word; DataError at the end of the file."""
        if self._next is None:
            raise DataError(f"window file {self.source} ends in the middle of an image")
        (word, self._line), self._next = self._next, next(self._words, None)
        return word

    def integer(self, what: str) -> int:
        """Return the next word as an integer of 32 bits; DataError, with `what`, for any other word."""
        word = self.take()
        try:
            return int32(word, f"{self.place}: {what}")
        except ValueError:
            raise DataError(f"{self.place}: expected {what}, a whole number, got {quoted(word)}") from None

    def number(self, what: str) -> float:
        """Return the next word as a finite float; DataError, with `what`, for any other word."""
        word = self.take()
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"{self.place}: expected {what}, a number, got {quoted(word)}")
        return number

    def count(self, what: str) -> int:
        """Return the next word as a number of things, 0 or more; DataError, with `what`, for any other word."""
        count = self.integer(what)
        if count < 0:
            raise DataError(f"{self.place}: expected {what}, 0 or more, got {count}")
        return count

    def corners(self, what: str) -> list[int]:
        """Return the next four words as x1, y1, x2 and y2 of `what`, a window or a box."""
        return [self.integer(f"{name} of {what}") for name in ("x1", "y1", "x2", "y2")]

    def image(self) -> tuple[str, int, int, int]:
        """Return path, number of channels, height and width of the next image; DataError for anything else."""
        mark = self.take()
        if mark != "#":
            raise DataError(f'{self.place}: expected "#" before the next image, got {quoted(mark)}')
        self.take()
        path, channels = self.take(), self.integer("the number of channels (a path may not hold spaces)")
        if channels not in (1, 3):
            raise DataError(f"{self.place}: expected 1 or 3 channels, got {channels}")
        return path, channels, self.integer("the height"), self.integer("the width")

    @property
    def place(self) -> str:
        """File and line number of the last word returned, for messages."""
        return f"window file {self.source}, line {self._line}"


def read_windows(source: str, root_folder: str, fg_threshold: float, bg_threshold: float):
    """Return the foreground windows, the background windows, and the number of channels of the images.

    A window is foreground if its overlap is at least fg_threshold (its class must be above 0), otherwise background if
    its overlap is below bg_threshold, otherwise ignored.
    DataError when the file is missing, not text, empty, or incomplete, and, with the line number, for an invalid word,
    an empty window, or images with different numbers of channels.
    """
    words, foreground, background, channels = Words(source), [], [], 0
    while words.next is not None:
        path, own_channels, _, _ = words.image()
        count = words.count("the number of windows")
        if channels not in (0, own_channels):
            raise DataError(f"{words.place}: image {path} has {own_channels} channels, but those before it {channels}")
        channels = own_channels
        for overlap, window in _read_windows(words, path, root_folder, count):
            if overlap < fg_threshold and not overlap < bg_threshold:
                continue
            if window.x2 < window.x1 or window.y2 < window.y1:
                raise DataError(
                    f"{words.place}: expected x1 <= x2 and y1 <= y2, got a window from ({window.x1}, {window.y1}) to "
                    f"({window.x2}, {window.y2})"
                )
            if overlap >= fg_threshold:
                if window.label <= 0:
                    raise DataError(
                        f"{words.place}: a foreground window of {path} has class {window.label}, expected above 0"
                    )
                foreground.append(window)
            else:
                window.label = 0
                background.append(window)
    if not channels:
        raise DataError(f"window file {source} is empty")
    return foreground, background, channels


def _read_windows(words: Words, path: str, root_folder: str, count: int) -> Iterator[tuple[float, ImageWindow]]:
    """Parse the `count` windows of an image; yield the overlap of each and the window."""
    for number in range(count):
        if words.next in ("#", None):
            raise DataError(f"{words.place}: image {path} has {number} windows, but its header states {count}")
        label, overlap = words.integer("the class of a window"), words.number("the overlap of a window")
        yield overlap, ImageWindow(root_folder + path, label, *words.corners("a window"))
    if words.next not in ("#", None):
        raise DataError(f"{words.place}: image {path} has more windows than the {count} that its header states")


class Warper:
    """Crop windows and warp (resize) them to crop_size x crop_size.

    crop_size: in pixels.  context_pad: width of the context on each side, in pixels of the result.
    square: extend the window to a square first.
    mean: None, (C, 1, 1), or an image of at least crop_size, whose centre is used.  scale: applied after the mean.
    The result is 0 in the part of the window outside the image.
    DataError for a mean image that is too small.
    """

    def __init__(self, crop_size: int, context_pad: int, square: bool, mean: np.ndarray | None, scale: float) -> None:
        self.crop_size, self.context_pad, self.square, self.scale = crop_size, context_pad, square, scale
        self.mean = np.zeros((1, 1, 1), np.float32) if mean is None else mean
        if self.mean.shape[1:] != (1, 1):
            if min(self.mean.shape[1:]) < crop_size:
                raise DataError(f"the mean image, {self.mean.shape}, is smaller than crop_size {crop_size}")
            start = (self.mean.shape[2] - crop_size) // 2
            if start + crop_size > self.mean.shape[1]:
                raise DataError(f"the mean image, {self.mean.shape}, must have as many rows as columns")
            self.mean = self.mean[:, start : start + crop_size, start : start + crop_size]

    def __call__(self, image: np.ndarray, window: ImageWindow, mirror: bool) -> np.ndarray:
        """Return the warped window of an image (C, H, W), flipped if `mirror`, as (C, crop_size, crop_size) float32.

        DataError for a window outside the image.
        """
        size = self.crop_size
        (y1, y2), (x1, x2) = self._expand(window)
        _, height, width = image.shape
        top, bottom = self._span(y1, y2, height)
        left, right = self._span(x1, x2, width)
        part = image[:, max(y1, 0) : max(y2, -1) + 1, max(x1, 0) : max(x2, -1) + 1]
        if not part.size:
            raise DataError(
                f"a window of {window.path}, ({window.x1}, {window.y1}) to ({window.x2}, {window.y2}), "
                f"lies outside the image, {width}x{height}"
            )
        part = resize(part, bottom - top, right - left)
        if mirror:
            part = part[:, :, ::-1]
            left, right = size - right, size - left
        result = np.zeros((len(image), size, size), np.float32)
        mean = self.mean if self.mean.shape[1:] == (1, 1) else self.mean[:, top:bottom, left:right]
        result[:, top:bottom, left:right] = (part - mean) * self.scale
        return result

    def _expand(self, window: ImageWindow) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the first and last row, and column, of the window with its context; it may exceed the image."""
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
        """Return the range in 0 .. crop_size that is covered by the part of first .. last inside the image."""
        scale = self.crop_size / (last - first + 1)
        start = _round(max(0, -first) * scale)
        inside = min(last, length - 1) - max(first, 0) + 1
        stop = min(start + max(_round(inside * scale), 1), self.crop_size)
        return min(start, stop - 1), stop


def _round(value: float) -> int:
    """Round to the nearest integer, halves away from zero, like C's round."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


class WindowReader:
    """Endless reader of batches of random windows.

    The background windows of a batch come first, then the foreground windows, a fraction `fg_fraction` of the batch.
    param: the layer's window_data_param.  source: the window file.  mirror: flip windows with probability 1/2.
    seed: of the random choices.  cache_images: keep all images in memory.
    DataError as for `read_windows`, and when there are no windows of a kind that is needed.
    """

    records: int | None = None  #: there are no passes over the windows: they are drawn at random

    def __init__(
        self, param, source: str, batch_size: int, warper: Warper, mirror: bool, seed: int, cache_images: bool
    ) -> None:
        self.batch_size, self.warper, self.mirror, self.source = batch_size, warper, mirror, source
        self.foreground, self.background, self.channels = read_windows(
            source, param.root_folder, param.fg_threshold, param.bg_threshold
        )
        if len(warper.mean) not in (1, self.channels):
            raise DataError(f"the mean has {len(warper.mean)} channels, but the images of {source} {self.channels}")
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
        """Return (C, crop_size, crop_size)."""
        return self.channels, self.warper.crop_size, self.warper.crop_size

    def first_name(self) -> str:
        """Return the name of a window, for messages."""
        return f"a window of {self.source}"

    def position(self) -> dict:
        """Return the state of the random stream."""
        return self._stream.get_state()

    def seek(self, position: dict) -> None:
        """Restore a position returned by `position`; SnapshotError for anything else."""
        self._stream = Stream(0)  # a new one: in a forked process, the lock of the old one may never be released
        self._stream.set_state(position)

    def read(self, each: Each = in_turn) -> Batch:
        """Return the next batch: images (N, C, crop_size, crop_size) float32, transformed, and labels (N,).

        each: how images are decoded and warped (default: one after the other).
        DataError when an image cannot be read or a window is outside its image.
        """
        draws = self._stream.uniform_u32(2 * self.batch_size).reshape(-1, 2).tolist()
        images = np.empty((self.batch_size, *self.first_shape()), np.float32)
        windows = [self._window(i, which) for i, (which, _) in enumerate(draws)]

        def warp(i: int) -> None:
            images[i] = self.warper(self._image(windows[i].path), windows[i], self.mirror and draws[i][1] % 2 == 1)

        each(warp, self.batch_size)
        return Batch(images, np.array([window.label for window in windows], np.float32), self.position())

    def _window(self, number: int, which: int) -> ImageWindow:
        """Return the window of image `number` of a batch for the random number `which`."""
        is_background = number < self.batch_size - self.number_foreground
        windows = self.background if is_background else self.foreground
        return windows[which % len(windows)]

    def _image(self, path: str) -> np.ndarray:
        if self._cache is None:
            return read_pixels(path, self.channels == 3)
        if path not in self._cache:  # two threads may decode one image: either copy will do
            self._cache[path] = read_image(path, self.channels == 3)
        return self._cache[path]
