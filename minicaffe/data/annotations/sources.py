"""Where images and their annotations are: lists of both, folders of PASCAL VOC, and sets of MS COCO."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePath
from typing import NamedTuple

from minicaffe.data.annotations import coco, text, voc
from minicaffe.data.annotations.objects import Annotation
from minicaffe.data.image_list import read_list
from minicaffe.errors import DataError
from minicaffe.text import quoted, read_names

#: functions that read an annotation file, by the `label_type` of convert_annoset
LABEL_TYPES: dict[str, Callable[[str], Annotation]] = {
    "xml": voc.read_annotation, "json": coco.read_annotation, "txt": text.read_annotation,
}  # fmt: skip
ANNOTATION_TYPES = ("classification", "detection")


class Entry(NamedTuple):
    """An image to convert.

    root, name: its path is their concatenation; `name` is also the key of the record, after its number.
    size_name: its name in the list of names and sizes.
    read: returns the annotation, or None if there is no annotation file.  label: of the image, for classification.
    """

    root: str
    name: str
    size_name: str
    read: Callable[[], Annotation | None] = lambda: None
    label: int | None = None


def _read_if_there(path: str, parse: Callable[[str], Annotation]) -> Annotation | None:
    return parse(path) if os.path.exists(path) else None


def classification_entries(root: str, source: str) -> list[Entry]:
    """Return the entries of a list with lines "image label"; DataError as for `image_list.read_list`."""
    return [Entry(root, name, size_name(name), label=label) for name, label in read_list(source)]


def detection_entries(root: str, source: str, label_type: str) -> list[Entry]:
    """Return the entries of a list with lines "image annotation", two paths below `root` without spaces.

    label_type: "xml", "json" or "txt".  DataError when the list cannot be read, and for a line of another form.
    """
    return [
        Entry(root, image, size_name(image), partial(_read_if_there, root + annotation, LABEL_TYPES[label_type]))
        for image, annotation in read_pairs(source)
    ]


def read_pairs(source: str) -> list[tuple[str, str]]:
    """Return the two words of each line of a list; DataError when it cannot be read, or a line has another number."""
    pairs = []
    for line in read_names(source, "image list"):
        words = line.split()
        if len(words) != 2:
            raise DataError(
                f'image list {source}: expected "image annotation" in each line, without spaces in them, '
                f"got {quoted(line)}"
            )
        pairs.append((words[0], words[1]))
    if not pairs:
        raise DataError(f"image list {source} is empty")
    return pairs


def voc_entries(folders: Sequence[str], name: str) -> list[Entry]:
    """Return the entries of a set, such as "trainval", in each of some folders of VOC; errors as for `voc.read_set`."""
    entries = []
    for folder in folders:
        parent, last = os.path.split(os.path.abspath(folder))
        for image, annotation in voc.read_set(folder, name):
            read = partial(_read_if_there, os.path.join(folder, annotation), voc.read_annotation)
            entries.append(Entry(os.path.join(parent, ""), f"{last}/{image}", size_name(image), read))
    return entries


def voc_classes(entries: Sequence[Entry]) -> list[str]:
    """Return the names of classes in the entries' annotations: VOC's twenty if there are no others, else sorted."""
    found = {str(each.name) for entry in entries if (annotation := entry.read()) for each in annotation.objects}
    return list(voc.CLASSES) if found <= set(voc.CLASSES) else sorted(found)


def coco_entries(instances: coco.Instances, images: str) -> list[Entry]:
    """Return the entries of a set of COCO, whose images are in folder `images`.

    Their names in the list of names and sizes are ids.
    """
    parent, last = os.path.split(os.path.abspath(images))
    root = os.path.join(parent, "")
    return [
        Entry(root, f"{last}/{each.file}", str(each.id), partial(_given, each.annotation)) for each in instances.images
    ]


def _given(annotation: Annotation) -> Annotation:
    return annotation


def size_name(path: str) -> str:
    """Return the name of an image in the list of names and sizes: that of its file without extension."""
    return PurePath(path).stem
