"""Window files of MS-CNN: the boxes in images, and regions that do not count.

    # image_index
    path
    channels
    height
    width
    number of boxes
    class ignore x1 y1 x2 y2      (one line per box; ignore: 1 if it does not count)
    number of regions
    x1 y1 x2 y2                   (one line per region)

Cai, Fan, Feris and Vasconcelos, "A unified multi-scale deep convolutional neural network for fast object detection",
2016.
"""

from __future__ import annotations

import numpy as np

from minicaffe.data.image_list import ListedImage
from minicaffe.data.reader import ALL, EntryReader, Share
from minicaffe.data.shuffle import Rounds
from minicaffe.data.windows import Words
from minicaffe.errors import DataError

CLASS, IGNORE, BOX = 0, 1, slice(2, 6)  #: columns of the rows of an image; a region has the class REGION
REGION = -1


class TruthReader(EntryReader):
    """Endless reader of batches of images, each with rows (n, 6) float32: class, ignore, x1, y1, x2, y2 in pixels.

    source: the window file.  root_folder: prepended to each path.  batch_size: images per batch.
    multiple: how often an image with a box that counts comes in a round.
    seed: of the shuffle before every round; None (default): in the order of the file.  share: as of `EntryReader`.
    DataError when the file is missing, not text, empty or incomplete, with the line number.
    """

    def __init__(
        self,
        source: str,
        root_folder: str,
        batch_size: int,
        multiple: int = 1,
        seed: int | None = None,
        share: Share = ALL,
    ) -> None:
        self.source = source
        words, self.entries = Words(source), []
        while words.next is not None:
            path, rows = read_entry(words)
            counts = bool(((rows[:, CLASS] != REGION) & (rows[:, IGNORE] == 0)).any())
            self.entries += [(root_folder + path, rows)] * (multiple if counts else 1)
        if not self.entries:
            raise DataError(f"window file {source} is empty")
        self.root_folder = root_folder
        super().__init__(batch_size, Rounds(len(self.entries), seed), share)

    def load(self, entry: int) -> tuple[ListedImage, np.ndarray]:  # type: ignore[override]  # rows in place of a number
        path, rows = self.entries[entry]
        return ListedImage(path, True, None, self.root_folder), rows

    def name_of(self, record: int) -> str:
        return self.entries[record][0]


def read_entry(words: Words) -> tuple[str, np.ndarray]:
    """Return the path of the next image and its rows; DataError for anything else."""
    path, _ = words.image()
    rows = []
    for _ in range(words.count("the number of boxes")):
        label, ignore = words.integer("the class of a box"), words.integer("whether a box is ignored")
        if label < 1:
            raise DataError(f"{words.place}: a box of {path} has class {label}, expected above 0")
        rows.append([label, ignore, *words.corners("a box")])
    for _ in range(words.count("the number of regions that do not count")):
        rows.append([REGION, 0, *words.corners("a region")])
    return path, np.array(rows, np.float32).reshape(-1, 6)
