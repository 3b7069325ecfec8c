"""Lists of windows of images with label maps: text files with lines "image map x1 y1 x2 y2", and their reader."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from minicaffe.data.image import resize
from minicaffe.data.image_list import ListedImage, int32, lines_of
from minicaffe.data.map_list import MAPS, ListedMap, MapListReader
from minicaffe.errors import DataError
from minicaffe.text import quoted


class Window(NamedTuple):
    """A rectangle of an image, with its last column and row; it may extend beyond the image."""

    x1: int
    y1: int
    x2: int
    y2: int

    def cut(self, image: np.ndarray, fill: int) -> np.ndarray:
        """Return the window of an image (C, H, W) uint8, with `fill` outside of it; float32 if that is no uint8."""
        height, width = image.shape[1:]
        shape = (len(image), self.y2 - self.y1 + 1, self.x2 - self.x1 + 1)
        window = np.full(shape, fill, image.dtype if 0 <= fill <= 255 else np.float32)
        top, left, bottom, right = max(self.y1, 0), max(self.x1, 0), min(self.y2 + 1, height), min(self.x2 + 1, width)
        if bottom > top and right > left:
            inside = window[:, top - self.y1 : bottom - self.y1, left - self.x1 : right - self.x1]
            inside[...] = image[:, top:bottom, left:right]
        return window


class WindowOf(NamedTuple):
    """A window of an image file, or of a label map, before it is read.

    size: (height, width) to resize to; None: not resized.  mode: how, one of `resample.MODES`.
    """

    file: ListedImage | ListedMap
    window: Window
    fill: int
    size: tuple[int, int] | None
    mode: str

    def pixels(self) -> np.ndarray:
        """Read the file, (C, height, width) of the window; DataError when it cannot be read."""
        pixels = self.window.cut(self.file.pixels(), self.fill)
        return resize(pixels, *self.size, self.mode) if self.size else pixels


def read_windows(source: str | os.PathLike) -> list[tuple[str, tuple[str, Window]]]:
    """Return (image, (map, window)) for each line of the file, separated by spaces or tabs.

    DataError as for `map_list.read_pairs`, and for a window without pixels.
    """
    entries = []
    for where, line in lines_of(source):
        words = line.split()
        try:
            image, labels, *corners = words
            window = Window(*(int32(word, f"{where}: corner") for word in corners))
        except (TypeError, ValueError):
            raise DataError(
                f'{where}: expected "image map x1 y1 x2 y2", without spaces in paths, got {quoted(line)}'
            ) from None
        if window.x2 < window.x1 or window.y2 < window.y1:
            raise DataError(f"{where}: expected x1 <= x2 and y1 <= y2, got {quoted(line)}")
        entries.append((image, (labels, window)))
    return entries


class WindowMapListReader(MapListReader):
    """Endless reader of batches of windows of the images in a list, whose labels are windows of maps.

    fill: the label outside of an image, where its pixels are 0.  The others: as for `MapListReader`.
    """

    def read_entries(self):
        return read_windows(self.source)

    def load(self, entry):
        path, (labels, window) = self.entries[entry]
        image = ListedImage(self.root_folder + path, self.color, None, self.root_folder)
        return WindowOf(image, window, 0, self.size, "LINEAR"), (labels, window)

    def label_of(self, label):
        """Return the map of an entry, decoded; or the number `fill`."""
        if self.kind != MAPS:
            return self.fill
        path, window = label
        root = self.root_folder
        return WindowOf(
            ListedMap(root + path, None, self.mode, False, root), window, self.fill, self.size, self.mode
        ).pixels()
