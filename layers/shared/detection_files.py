"""Files of detections in the formats of VOC, COCO and ILSVRC (save_output_param of DetectionOutput)."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.data.label_map import read_label_map
from minicaffe.errors import DataError, nearest, printable
from minicaffe.files import write_atomically
from minicaffe.layers.shared.image_sizes import ImageSizes, in_pixels, resize_of
from minicaffe.proto.caffe_pb2 import SaveOutputParameter

_log = logging.getLogger(__name__)

_FORMATS = ("VOC", "COCO", "ILSVRC")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")  # of JSON: names that are one are written without quotes


class Found(NamedTuple):
    """A detection: names of image and class, the label, confidence, and xmin, ymin, width, height in pixels."""

    image: str
    name: str
    label: int
    score: float
    box: list[float]


def missing(param: SaveOutputParameter) -> str:
    """Return what is missing for files to be written, in words; "" if nothing is."""
    for field in ("output_directory", "label_map_file", "name_size_file"):
        value = getattr(param, field)
        if not value:
            return f"save_output_param gives no {field}"
        if field != "output_directory" and not os.path.isfile(value):
            return f"there is no {field} '{printable(value)}'"
    return ""


def open_files(layer: Layer, param, labels: Iterable[int]) -> DetectionFiles | None:
    """Return the files of a layer's message, None without save_output_param or if something is missing for them.

    labels: of the classes that are written.  LayerError for files or fields that do not fit.
    """
    if not param.HasField("save_output_param"):
        return None
    if without := missing(param.save_output_param):
        _log.info("Layer %s: detections are not saved to files: %s", layer.name, without)
        return None
    try:
        return DetectionFiles(param.save_output_param, list(labels))
    except DataError as error:
        raise layer.error(str(error)) from error


class DetectionFiles:
    """Collects detections and writes them, whenever those of `num_test_image` images are complete.

    VOC: a text file for each class, `<directory>/<prefix><class>.txt`, with lines "image confidence xmin ymin xmax
    ymax"; ILSVRC: one file `<prefix>.txt` with the label after the image; COCO: `<prefix>.json`.  Coordinates of the
    first two are whole numbers: xmin, and the sum of xmin and width, each cut.

    labels: those of the classes that are written.  DataError for files or fields that do not fit.
    """

    def __init__(self, param: SaveOutputParameter, labels: list[int]) -> None:
        self._param = param
        if param.output_format not in _FORMATS:
            known, hint = ", ".join(_FORMATS), nearest(param.output_format, _FORMATS)
            raise DataError(f"output_format must be one of {known}, got '{printable(param.output_format)}'{hint}")
        self.images = ImageSizes(param.name_size_file, param.num_test_image)
        self._resize = resize_of(param)
        self._names = read_label_map(param.label_map_file).names
        without = [label for label in labels if label not in self._names]
        if without:
            raise DataError(f"label map {param.label_map_file} has no class of label {without[0]}")
        if param.output_format == "VOC":
            self._check_file_names(self._names[label] for label in labels)
        self._labels = labels
        self._found: list[Found] = []

    def _check_file_names(self, names: Iterable[str]) -> None:
        for name in names:
            if os.path.basename(name) != name or "\0" in name:
                raise DataError(
                    f"label map {self._param.label_map_file}: '{printable(name)}' cannot be part of a file's name"
                )

    def add(self, rows: np.ndarray) -> None:
        """Add the rows (D, 7) of the next image; after the last image, write the files."""
        image = self.images[0]
        boxes = in_pixels(rows[:, 3:].astype(np.float32), image, self._resize)
        boxes[:, 2:] -= boxes[:, :2]
        for (label, score), box in zip(rows[:, 1:3].tolist(), _to_hundredths(boxes).tolist()):
            self._found.append(Found(image.name, self._names[int(label)], int(label), score, box))
        self.images.advance(1)
        if self.images.next == 0:
            self._write()
            self._found = []

    def load(self, state: dict) -> None:
        """Go to the position of a layer's state; detections that are not written yet are dropped."""
        self.images.load(state)
        self._found = []

    def _write(self) -> None:
        if self._param.output_format == "VOC":
            for label in self._labels:
                own = [found for found in self._found if found.label == label]
                self._save(f"{self._names[label]}.txt", "".join(f"{each.image} {_line(each)}\n" for each in own))
        elif self._param.output_format == "ILSVRC":
            lines = (f"{each.image} {each.label} {_line(each)}\n" for each in self._found)
            self._save(".txt", "".join(lines))
        else:
            self._save(".json", _json(self._found))

    def _save(self, name: str, text: str) -> None:
        folder = self._param.output_directory
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder '{folder}': {error.strerror}") from error
        write_atomically(os.path.join(folder, self._param.output_name_prefix + name), text)


def _to_hundredths(boxes: np.ndarray) -> np.ndarray:
    """Return float32 numbers rounded to 1/100, halves away from 0."""
    scaled = (boxes * np.float32(100)).astype(np.float64)
    return (np.trunc(scaled + np.copysign(0.5, scaled)) / 100).astype(np.float32)


def _line(found: Found) -> str:
    """Return confidence, xmin, ymin, xmax and ymax."""
    x, y, width, height = map(int, found.box)
    return f"{found.score:.6g} {x} {y} {x + width} {y + height}"


def _json(found: list[Found]) -> str:
    """Return COCO's list of results, laid out as the original's."""
    texts = []
    for each in found:
        box = ",\n".join(f"{' ' * 16}{value:.9g}" for value in each.box)
        lines = [f'"image_id": {_word(each.image)}', f'"category_id": {_word(each.name)}',
                 f'"bbox": [\n{box}\n{" " * 12}]', f'"score": {each.score:.9g}']  # fmt: skip
        inner = ",\n".join(f"{' ' * 12}{line}" for line in lines)
        texts.append(f"{' ' * 8}{{\n{inner}\n{' ' * 8}}}")
    return "[\n" + ",\n".join(texts) + "\n    \n]\n"


def _word(name: str) -> str:
    """Return a name as a number of JSON if it is one, else as a string."""
    return name if _NUMBER.fullmatch(name) else json.dumps(name)
