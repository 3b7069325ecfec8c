"""Annotation files of MS COCO (Lin et al., 2014): JSON, for all images of a set or, as SSD's fork splits it, for each.

A category is named by its id, in decimal: so do the label map of SSD's fork and the results that COCO evaluates.
Boxes are [xmin, ymin, width, height] in pixels; those of crowds are difficult.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy as np

from minicaffe.data.annotations.objects import Annotation, Object, edge
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2
from minicaffe.text import read_text

_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


class Image(NamedTuple):
    """An image of a set: its id, the name of its file, and its annotation."""

    id: int
    file: str
    annotation: Annotation


class Instances(NamedTuple):
    """The content of an instances_*.json: images in the file's order, and (id, name) of each category by id."""

    images: list[Image]
    categories: list[tuple[int, str]]

    def label_map(self) -> caffe_pb2.LabelMap:
        """Return the label map in the form of SSD's fork: ids as names, categories' names as display names."""
        from minicaffe.data.annotations.lists import label_map

        return label_map([str(number) for number, _ in self.categories], [name for _, name in self.categories])


def read_annotation(path: str) -> Annotation:
    """Read the annotation of one image: {"image": {"height", "width"}, "annotation": [{"category_id", "bbox"}, ...]}.

    DataError, naming file and member, for what is missing or of another form.
    """
    where, content = f"annotation {path}", _read_json(path)
    image = _member(content, "image", dict, where) if "image" in content else {}
    size = _size(image, f"{where}: image") if {"height", "width"} <= set(image) else None
    annotations = _member(content, "annotation", list, where)
    return Annotation(where, size, [_object(each, f"{where}: annotation[{i}]") for i, each in enumerate(annotations)])


def read_instances(path: str) -> Instances:
    """Read the annotations of a set of images, an instances_*.json.

    DataError, naming file and member, for what is missing or of another form, and for an object whose image or
    category the file does not have.
    """
    where, content = f"annotation {path}", _read_json(path)
    images, annotations, categories = (
        _member(content, name, list, where) for name in ("images", "annotations", "categories")
    )
    known = _by_id(categories, f"{where}: categories")
    objects: dict[int, list[Object]] = {number: [] for number in _by_id(images, f"{where}: images")}
    for i, each in enumerate(annotations):
        here = f"{where}: annotations[{i}]"
        image = _number(each, "image_id", here)
        if image not in objects:
            raise DataError(f"{here}: there is no image with id {image}")
        if _number(each, "category_id", here) not in known:
            raise DataError(f"{here}: there is no category with id {each['category_id']}")
        objects[image].append(_object(each, here))
    return Instances(
        [_image(each, objects, f"{where}: images[{i}]") for i, each in enumerate(images)],
        [(number, _member(known[number], "name", str, f"{where}: category {number}")) for number in sorted(known)],
    )


def _by_id(items: list, where: str) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for i, each in enumerate(items):
        number = _number(each, "id", f"{where}[{i}]")
        if number in found:
            raise DataError(f"{where}[{i}] repeats the id {number} of one before")
        found[number] = each
    return found


def _image(content: dict, objects: dict[int, list[Object]], where: str) -> Image:
    number, file = _number(content, "id", where), _member(content, "file_name", str, where)
    return Image(number, file, Annotation(f"{where} ({file})", _size(content, where), objects[number]))


def _size(content: Any, where: str) -> tuple[int, int] | None:
    height, width = (_number(content, name, where) for name in ("height", "width"))
    return (height, width) if min(height, width) >= 1 else None


def _object(content: Any, where: str) -> Object:
    category = content.get("category_id") if isinstance(content, dict) else None
    if isinstance(category, bool) or not isinstance(category, (int, str)):
        raise DataError(f"{where} must have a category_id")
    numbers = _member(content, "bbox", list, where)
    if len(numbers) != 4 or any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in numbers):
        raise DataError(f"{where}: bbox must be [xmin, ymin, width, height]")
    x, y, width, height = (edge(each, f"{where}: bbox") for each in numbers)
    xmax, ymax = (float(np.float32(low) + np.float32(side)) for low, side in ((x, width), (y, height)))
    return Object(str(category), x, y, xmax, ymax, bool(content.get("iscrowd", 0)))


def _read_json(path: str) -> dict[str, Any]:
    """Return the object in a JSON file; DataError when there is none."""
    text = read_text(path, "annotation", errors="replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read annotation {path} as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"annotation {path} must be a JSON object, {{...}}")
    return content


def _member(content: Any, name: str, kind: type, where: str) -> Any:
    """Return a member of an object; DataError when it is missing or of another type."""
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kind):
        raise DataError(f'{where} must have a member "{name}", {_KINDS[kind]}')
    if isinstance(value, str) and any("\ud800" <= each <= "\udfff" for each in value):
        raise DataError(f'{where}: "{name}" has half a surrogate pair')
    return value


def _number(content: Any, name: str, where: str) -> int:
    """Return a member that is a whole number of at most 64 bits; DataError when it is missing or another one."""
    value = content.get(name) if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise DataError(f'{where} must have a member "{name}", a whole number')
    return value


# -- folders -----------------------------------------------------------------------------------------------------------


def find_set(folder: str, name: str) -> tuple[str, str]:
    """Return the paths of a set's annotations and of the folder of its images.

    folder: that of the data set, with annotations/instances_<name>.json and the images in <name> or images/<name>.
    DataError when one of them does not exist.
    """
    found = []
    for what, paths in (
        ("annotations", [f"annotations/instances_{name}.json", f"instances_{name}.json"]),
        ("images", [name, f"images/{name}"]),
    ):
        existing = [path for path in (os.path.join(folder, each) for each in paths) if os.path.exists(path)]
        if not existing:
            raise DataError(f"there are no {what} of set '{name}' in {folder}: expected {' or '.join(paths)}")
        found.append(existing[0])
    return found[0], found[1]
