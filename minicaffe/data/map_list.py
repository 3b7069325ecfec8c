"""Lists of images with label maps: text files with lines "image map", and their reader."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from minicaffe.data.image import read_pixels, resize
from minicaffe.data.image_list import ImageListReader, hinting, int32, lines_of
from minicaffe.errors import DataError
from minicaffe.text import quoted

#: What a line has behind the path of the image.
MAPS, NUMBERS, NOTHING = "the path of its label map", "a whole number, its label", "nothing that is read"


def read_pairs(source: str | os.PathLike, kind: str = MAPS) -> list[tuple[str, str]]:
    """Return (image, map) for each line of the file, separated by spaces or tabs: names have no spaces.

    kind: MAPS (default), NUMBERS, where the second is the text of a whole number, or NOTHING, where it is "".
    DataError as for `image_list.read_list`.
    """
    pairs = []
    for where, line in lines_of(source):
        words = line.split()
        if kind == NOTHING:
            words = [words[0], ""]
        if len(words) != 2:
            raise DataError(
                f"{where}: expected the path of an image and {kind}, without spaces in them, got {quoted(line)}"
            )
        if kind == NUMBERS:
            try:
                int32(words[1], f"{where}: label")
            except ValueError:
                raise DataError(f"{where}: expected a whole number as label, got {quoted(words[1])}") from None
        pairs.append((words[0], words[1]))
    return pairs


class ListedMap(NamedTuple):
    """A file with a label map before it is read.

    size: (height, width) to resize to; None: not resized.  mode: how, one of `resample.MODES`.
    normalized: whether values become 1 from 128 on, else 0.
    root_folder: what `path` begins with.
    """

    path: str
    size: tuple[int, int] | None
    mode: str
    normalized: bool
    root_folder: str

    def pixels(self) -> np.ndarray:
        """Read, decode and resize the map, (1, H, W) uint8; DataError when it cannot be read."""
        with hinting(self.root_folder, self.path.removeprefix(self.root_folder)):
            labels = read_pixels(self.path, color=False)
        if self.size:
            labels = resize(labels, *self.size, self.mode)
        return (labels >= 128).view(np.uint8) if self.normalized else labels


class MapListReader(ImageListReader):
    """Endless reader of batches of the images in a list, whose labels are maps, an array (1, H, W) for each image.

    kind: of the lines, as for `read_pairs`; with NUMBERS and NOTHING a label is a number, that of all pixels.
    mode: how maps are resized, one of `resample.MODES`.  normalized: as for `ListedMap`.  fill: the label where the
        list has none.  The others: as for `ImageListReader`.
    """

    def __init__(
        self, *args, kind: str = MAPS, mode: str = "NEAREST", normalized: bool = False, fill: int = 0, **kwargs
    ) -> None:
        self.kind, self.mode, self.normalized, self.fill = kind, mode, normalized, fill
        super().__init__(*args, **kwargs)

    def read_entries(self):
        return read_pairs(self.source, self.kind)

    def label_of(self, label):
        """Return the map of an entry, decoded, or its number."""
        if self.kind != MAPS:
            return self.fill if self.kind == NOTHING else int(label)
        root = self.root_folder
        return ListedMap(root + label, self.size, self.mode, self.normalized, root).pixels()
