"""Window files of MS-CNN and Cascade R-CNN: the boxes in images, and regions that do not count.

    # image_index
    path
    channels
    height
    width
    number of boxes
    class ignore x1 y1 x2 y2      (one line per box; ignore: 1 if it does not count; Cascade R-CNN's files have
                                  "difficult", 1 or 0, behind it)
    number of regions
    x1 y1 x2 y2                   (one line per region)

Cai, Fan, Feris and Vasconcelos, "A unified multi-scale deep convolutional neural network for fast object detection",
2016; Cai and Vasconcelos, "Cascade R-CNN", 2018.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from minicaffe.data.image_list import ListedImage
from minicaffe.data.reader import ALL, EntryReader, Share
from minicaffe.data.shuffle import Arrange, Rounds
from minicaffe.data.windows import Words
from minicaffe.errors import DataError

#: columns of the rows of an image; a region has the class REGION
CLASS, IGNORE, BOX, DIFFICULT = 0, 1, slice(2, 6), 6
COLUMNS = 7
REGION = -1


class Entry(NamedTuple):
    """An image of a window file: its path, whether it is at least as high as wide, and its rows (n, COLUMNS)."""

    path: str
    tall: bool
    rows: np.ndarray


class TruthReader(EntryReader):
    """Endless reader of batches of images, each with rows (n, 7) float32: class, ignore, x1, y1, x2, y2 in pixels,
    difficult.

    source: the window file.  root_folder: prepended to each path.  batch_size: images per batch.
    multiple: how often an image with a box that counts comes in a round.  difficult: whether the file states it.
    seed: of the shuffle before every round; None (default): in the order of the file.  by_aspect: that shuffle keeps
    tall images apart from wide ones, see `arranged_by_aspect`: number of images that follow each other, 0: all of
    a kind; None (default): it does not.  share: as of `EntryReader`.
    DataError when the file is missing, not text, empty or incomplete, with the line number.
    """

    def __init__(
        self,
        source: str,
        root_folder: str,
        batch_size: int,
        multiple: int = 1,
        difficult: bool = False,
        seed: int | None = None,
        by_aspect: int | None = None,
        share: Share = ALL,
    ) -> None:
        self.source = source
        words, self.entries = Words(source), []
        while words.next is not None:
            path, tall, rows = read_entry(words, difficult)
            counts = bool(((rows[:, CLASS] != REGION) & (rows[:, IGNORE] == 0)).any())
            self.entries += [Entry(root_folder + path, tall, rows)] * (multiple if counts else 1)
        if not self.entries:
            raise DataError(f"window file {source} is empty")
        self.root_folder = root_folder
        arrange: Arrange | None = None
        if by_aspect is not None:
            tall_ones = np.array([entry.tall for entry in self.entries])
            arrange = partial(arranged_by_aspect, tall_ones, by_aspect)
        super().__init__(batch_size, Rounds(len(self.entries), seed, arrange=arrange), share)

    def load(self, entry: int) -> tuple[ListedImage, np.ndarray]:  # type: ignore[override]  # rows in place of a number
        path, _, rows = self.entries[entry]
        return ListedImage(path, True, None, self.root_folder), rows

    def name_of(self, record: int) -> str:
        return self.entries[record].path


def arranged_by_aspect(tall: np.ndarray, together: int, generator: np.random.Generator) -> np.ndarray:
    """Return the indices of images in a random order in which tall ones and others, or others and tall ones, alternate.

    tall: (n,) bool.  together: number of images of a kind that follow each other; 0: all of them.  When one kind is
    used up, what is left of the other one follows.
    """
    kinds = [generator.permutation(np.flatnonzero(tall == kind)) for kind in (True, False)]
    first, second = kinds[:: 1 if generator.random() < 0.5 else -1]
    if not together:
        return np.concatenate([first, second])
    order: list[int] = []
    rest = [first.tolist(), second.tolist()]
    which = 0
    while all(rest):
        order += rest[which][:together]
        rest[which] = rest[which][together:]
        which = 1 - which
    return np.array([*order, *rest[0], *rest[1]], int)


def read_entry(words: Words, difficult: bool = False) -> Entry:
    """Return the next image; difficult: whether the rows of boxes state it.  DataError for anything else."""
    path, _, height, width = words.image()
    rows = []
    for _ in range(words.count("the number of boxes")):
        label, ignore = words.integer("the class of a box"), words.integer("whether a box is ignored")
        hard = words.integer("whether a box is difficult") if difficult else 0
        if label < 1:
            raise DataError(f"{words.place}: a box of {path} has class {label}, expected above 0")
        rows.append([label, ignore, *words.corners("a box"), hard])
    for _ in range(words.count("the number of regions that do not count")):
        rows.append([REGION, 0, *words.corners("a region"), 0])
    return Entry(path, height >= width, np.array(rows, np.float32).reshape(-1, COLUMNS))
