"""Label maps of detection data sets: prototxts of LabelMap, one item for each class."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from minicaffe.errors import DataError, PrototxtError, nearest, printable
from minicaffe.proto import caffe_pb2, read_text
from minicaffe.text import class_names


@dataclass(frozen=True)
class LabelMap:
    """The classes of a label map.

    path: its file, for messages.  names: {label: name}, in the order of the file; a name is what annotations call the
    class.  display_names: {label: name to be shown}, the name itself where an item gives none.
    """

    path: str
    names: dict[int, str]
    display_names: dict[int, str]

    @functools.cached_property
    def labels(self) -> dict[str, int]:
        """{name: label}."""
        return {name: label for label, name in self.names.items()}

    def label_of(self, name: str) -> int:
        """Return the label of a name; DataError, with the most similar known name, for an unknown one."""
        if name not in self.labels:
            raise DataError(f"label map {self.path} has no class '{printable(name)}'{nearest(name, self.labels)}")
        return self.labels[name]


def read_names_of_labels(path: str) -> LabelMap:
    """Read the names of classes: a label map (.prototxt), or a text file with a name for each label, from 0 on, a line.

    DataError as for `read_label_map` and `text.class_names`.
    """
    if path.endswith(".prototxt"):
        return read_label_map(path)
    names = dict(enumerate(class_names(path)))
    return LabelMap(path, names, names)


def read_label_map(path: str | os.PathLike) -> LabelMap:
    """Read a label map, such as `item { name: "dog" label: 12 display_name: "Dog" }` for each class.

    DataError when the file cannot be read, is no LabelMap, has no item, an item without name or label, or two items of
    the same name or label.
    """
    try:
        items = read_text(path, caffe_pb2.LabelMap()).item
    except PrototxtError as error:
        raise DataError(f"cannot read label map {error}") from error
    names: dict[int, str] = {}
    taken: set[str] = set()
    for i, item in enumerate(items):
        where = f"label map {os.fspath(path)}: item {i}"
        if not item.name or not item.HasField("label"):
            raise DataError(f"{where} must have a name and a label, got {printable(str(item).strip()) or 'nothing'}")
        if item.label in names or item.name in taken:
            raise DataError(
                f"{where} repeats the name or the label of an item before: {printable(item.name)}, {item.label}"
            )
        names[item.label] = item.name
        taken.add(item.name)
    if not names:
        raise DataError(f"label map {os.fspath(path)} has no item")
    return LabelMap(os.fspath(path), names, {item.label: item.display_name or item.name for item in items})
