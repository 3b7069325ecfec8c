"""What checks read of the source of a data layer: number of records, labels, shapes, and a sample of pixel values."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.data import hdf5
from minicaffe.data.annotated import AnnotatedDecoder
from minicaffe.data.box_rows import WHOLE, projected
from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import Database, backend_name, open_db
from minicaffe.data.image_list import ListedImage, read_list
from minicaffe.data.reader import decoded
from minicaffe.data.windows import read_windows

MAX_RECORDS = 200_000  #: records of a database whose labels are all read, if it has at most MAX_BYTES
MAX_BYTES = 1 << 30  #: of the files of such a database
MAX_LABELS = 1 << 28  #: bytes of labels in HDF5 files, after which the labels of further files are not read
RUNS, RUN = 100, 200  #: of a larger database: runs of consecutive records, evenly spread, and the records of each
MAX_IMAGES = 500  #: images of a database that are decoded for each doubling of the number of its records
MAX_FILES = 64  #: images of a list that are read, evenly spread

Shape = tuple[int, ...]


class Pixels:
    """Sums over images (C, H, W): their number, and mean and standard deviation of each channel."""

    def __init__(self) -> None:
        self.images = 0
        self._sums: dict[int, np.ndarray] = {}  # by number of channels: (count, sum, sum of squares) of each channel

    def add(self, image: np.ndarray, weight: int = 1) -> None:
        """Add an image; weight: how many images it is counted as."""
        values = image.reshape(len(image), -1).astype(np.float64)
        own = np.array([np.full(len(values), values.shape[1]), values.sum(1), np.square(values).sum(1)])
        self._sums[len(values)] = self._sums.get(len(values), 0) + weight * own
        self.images += 1

    @property
    def mean(self) -> np.ndarray | None:
        """Mean of each channel, (C,); None without images, or if they differ in the number of channels."""
        if len(self._sums) != 1:
            return None
        (sums,) = self._sums.values()
        return sums[1] / sums[0]

    @property
    def deviation(self) -> np.ndarray | None:
        """Standard deviation of each channel, (C,); None as for `mean`."""
        mean = self.mean
        if mean is None:
            return None
        (sums,) = self._sums.values()
        with np.errstate(all="ignore"):  # of data with infinity
            return np.sqrt(np.maximum(sums[2] / sums[0] - np.square(mean), 0))


class Boxes:
    """Counts over the boxes of annotated images.

    images: read so far.  labels: number of boxes by label.  empty: how many of them have no area in their image.
    """

    def __init__(self) -> None:
        self.images = self.empty = 0
        self.labels: Counter[int] = Counter()

    def add(self, rows: np.ndarray) -> None:
        """Add the rows of an image, see `minicaffe.data.box_rows`."""
        self.images += 1
        self.labels.update(rows[:, 0].astype(np.int64).tolist())
        self.empty += len(rows) - len(projected(rows, WHOLE, None))


@dataclass
class Records:
    """The records of a source.

    count: their number; None if it is unknown.
    labels: by index of the top: the labels of runs of consecutive records, (n,) or (n, ...) each.
    whole: whether `labels` has those of all records.
    ordered: whether the source has an order of its own; False for windows, which are drawn at random.
    shapes: shapes (C, H, W) of images, as read and resized by the reader.
    pixels: sums over a sample of the images.
    encoded: whether any image is a file in a record of a database.
    boxes: counts over the boxes of all records of `labels`; None if the source has no boxes.
    """

    count: int | None = None
    labels: dict[int, list[np.ndarray]] = field(default_factory=dict)
    whole: bool = True
    ordered: bool = True
    shapes: set[Shape] = field(default_factory=set)
    pixels: Pixels = field(default_factory=Pixels)
    encoded: bool = False
    boxes: Boxes | None = None


def read_records(layer: Any, label_tops: Iterable[int]) -> Records | None:
    """Return the records of a data layer's source; None for layers that read no files.

    layer: its LayerParameter.  label_tops: indices of the tops of an HDF5Data layer that are class labels.
    DataError if the source cannot be read.
    """
    if layer.type in ("Data", "AnnotatedData"):
        return _of_database(layer)
    if layer.type == "ImageData":
        return _of_list(layer.image_data_param)
    if layer.type == "HDF5Data":
        return _of_hdf5(layer, sorted(label_tops))
    if layer.type == "WindowData":
        return _of_windows(layer.window_data_param)
    return None


# -- databases ---------------------------------------------------------------------------------------------------------


class _Sample:
    """Some items of a sequence of unknown length: every n-th, where n doubles with the length.

    use: called with each item of the sample, and with n, as how many items it counts.
    """

    def __init__(self, use: Callable[[Any, int], None]) -> None:
        self._use, self._seen, self._step = use, 0, 1

    def offer(self, item: Any) -> None:
        """Use the item if it belongs to the sample."""
        if self._seen % self._step == 0:
            self._use(item, self._step)
        self._seen += 1
        if self._seen == 2 * self._step * MAX_IMAGES:
            self._step *= 2


def _of_database(layer: Any) -> Records:
    param, common = layer.data_param, layer.transform_param
    color = True if param.force_encoded_color or common.force_color else (False if common.force_gray else None)
    records, labels = Records(count=0), []

    def use(image: Any, weight: int) -> None:
        pixels = decoded(image)
        records.shapes.add(pixels.shape)
        records.pixels.add(pixels, weight)

    sample, decoder = _Sample(use), DatumDecoder(param.source, color)
    if layer.type == "AnnotatedData":
        decoder = AnnotatedDecoder(param.source, color, layer.annotated_data_param.HasField("anno_type"))
    with contextlib.closing(open_db(param.source, param.backend)) as database:
        records.count, records.whole, runs = _runs_of(database, backend_name(param.backend))
        for run in runs:
            own = []
            for key, value in run:
                image, label = decoder.parse(key, value)
                own.append(_number(records, label))
                if isinstance(image, np.ndarray):
                    records.shapes.add(image.shape)
                else:
                    records.encoded = True
                sample.offer(image)
            labels.append(np.array(own, np.int64))
    records.labels[1] = labels
    if records.whole:
        records.count = sum(map(len, labels))
    return records


def _number(records: Records, label: Any) -> int:
    """Return the label of a record; rows of boxes are counted, and stand for 0."""
    if not isinstance(label, np.ndarray):
        return label
    records.boxes = records.boxes or Boxes()
    records.boxes.add(label)
    return 0


def _runs_of(database: Database, backend: str) -> tuple[int | None, bool, Iterator[Iterable]]:
    """Return the number of records, if it is known, whether the runs have all of them, and the runs of records."""
    files = (os.path.join(database.source, name) for name in os.listdir(database.source))
    small = sum(os.path.getsize(path) for path in files if os.path.isfile(path)) <= MAX_BYTES
    if backend == "leveldb":  # neither its length nor its keys are known before all of it is read
        items = database.items() if small else itertools.islice(database.items(), RUNS * RUN)
        return None, small, iter([items])
    count = len(database)
    if small and count <= MAX_RECORDS or count <= RUNS * RUN:
        return count, True, iter([database.items()])
    keys = database.keys()
    starts = [i * (count - RUN) // (RUNS - 1) for i in range(RUNS)]
    runs = (itertools.islice(database.items(keys[start - 1] if start else None), RUN) for start in starts)
    return count, False, runs


# -- other sources -----------------------------------------------------------------------------------------------------


def _of_list(param: Any) -> Records:
    entries = read_list(param.source)
    records = Records(count=len(entries), labels={1: [np.array([label for _, label in entries], np.int64)]})
    size = (param.new_height, param.new_width) if param.new_height and param.new_width else None
    for i in sorted({i * (len(entries) - 1) // (MAX_FILES - 1) for i in range(MAX_FILES)}):
        image = ListedImage(param.root_folder + entries[i][0], param.is_color, size, param.root_folder).pixels()
        records.shapes.add(image.shape)
        records.pixels.add(image)
    return records


def _of_hdf5(layer: Any, label_tops: Sequence[int]) -> Records:
    records = Records(labels={top: [] for top in label_tops})
    count = size = 0
    for path in hdf5.read_file_list(layer.hdf5_data_param.source):
        count += hdf5.count_rows(path, layer.top)
        records.whole &= size <= MAX_LABELS
        if label_tops and records.whole:
            for top, labels in zip(label_tops, hdf5.load_file(path, [layer.top[j] for j in label_tops])):
                records.labels[top].append(labels)
                size += labels.nbytes
    records.count = count
    return records


def _of_windows(param: Any) -> Records:
    foreground, background, _ = read_windows(
        param.source, param.root_folder, param.fg_threshold, param.bg_threshold
    )  # fmt: skip
    labels = np.array([window.label for window in (*background, *foreground)], np.int64)
    return Records(labels={1: [labels]}, ordered=False)
