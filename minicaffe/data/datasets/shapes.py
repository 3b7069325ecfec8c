"""A drawn data set for object detection: coloured shapes with boxes, as databases of AnnotatedDatums.

The pictures are those of `scenes`.  A picture depends on the seed, its part (train or test) and its number alone, so a
larger data set begins with the pictures of a smaller one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.data.annotations import lists, voc
from minicaffe.data.annotations.records import Box, annotated_datum
from minicaffe.data.datasets.records import replacing_database, write_about
from minicaffe.data.datasets.scenes import CLASSES, draw_scene
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.errors import DataError
from minicaffe.files import write_atomically
from minicaffe.progress.counting import Progress
from minicaffe.proto import caffe_pb2

NAME, ABOUT = "shapes", "Coloured shapes with boxes, drawn by minicaffe."
LABEL_MAP, NAME_SIZE = "labelmap.prototxt", "test_name_size.txt"
_SMALLEST, _LARGEST = 32, 1024  # sides of a picture, in pixels
_PARTS = ("train", "test")


class _Picture(NamedTuple):
    """A picture of the data set, as the content of a JPEG file."""

    name: str
    content: bytes
    boxes: list[Box]
    labels: bytes  #: the label map, as the content of a PNG file


def prepare(
    dest: str = "data/shapes",
    backend: str = "lmdb",
    *,
    train: int = 6000,
    test: int = 500,
    size: int = 128,
    seed: int = 1,
    voc_folder: bool = False,
) -> None:
    """Write train_<backend>, test_<backend>, labelmap.prototxt and test_name_size.txt into folder `dest`.

    backend: "lmdb" (default) or "leveldb".  train, test: numbers of pictures.  size: side of a picture, 32 to 1024
        pixels (default 128).  seed: of the random numbers, 0 or more (default 1).
    voc_folder: also write the pictures, boxes and label maps as a folder of PASCAL VOC's layout, dest/VOC, and the
        lists train_maps.txt and test_maps.txt of the pictures with their maps, relative to `dest` (default False).
    A key is that of convert_annoset: eight digits, "_" and the file's path in the VOC folder.
    DataError for an argument out of its range, for a VOC folder that exists, and when a file cannot be written.
    """
    if not _SMALLEST <= size <= _LARGEST:
        raise DataError(f"a picture of the shapes has {_SMALLEST} to {_LARGEST} pixels on each side, got {size}")
    if min(train, test) < 1 or seed < 0:
        raise DataError(f"expected at least one picture and a seed of 0 or more, got {train}, {test} and seed {seed}")
    os.makedirs(dest, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(voc.FolderWriter(f"{dest}/VOC", CLASSES)) if voc_folder else None
        for part, count in zip(_PARTS, (train, test), strict=True):
            with replacing_database(os.path.join(dest, f"{part}_{backend}")) as fresh:
                _write_part(fresh, backend, part, _pictures(part, count, size, seed), count, folder, size)
    labels = lists.label_map_text(lists.label_map(CLASSES))
    sizes = lists.name_size_text((_name("test", i), size, size) for i in range(test))
    files: dict[str, str | bytes] = {LABEL_MAP: labels, NAME_SIZE: sizes}
    if voc_folder:
        files |= {f"{part}_maps.txt": _list_of_maps(part, count) for part, count in zip(_PARTS, (train, test))}
    for name, text in files.items():
        write_atomically(os.path.join(dest, name), text)
    write_about(dest, CLASSES, ABOUT)


def _name(part: str, number: int) -> str:
    return f"{part}_{number:06d}"


def _list_of_maps(part: str, count: int) -> str:
    names = (_name(part, number) for number in range(count))
    return "".join(f"VOC/{voc.IMAGES}/{name}.jpg VOC/{voc.MAPS}/{name}.png\n" for name in names)


def _pictures(part: str, count: int, size: int, seed: int) -> Iterator[_Picture]:
    for number in range(count):
        rng = np.random.Generator(np.random.Philox(key=[seed, _PARTS.index(part) << 32 | number]))
        scene = draw_scene(rng, size)
        picture, labels = encode_image(scene.picture, "jpg"), encode_image(scene.labels, "png")
        yield _Picture(_name(part, number), picture, scene.boxes, labels)


def _write_part(
    path: str,
    backend: str,
    part: str,
    pictures: Iterator[_Picture],
    count: int,
    folder: voc.FolderWriter | None,
    size: int,
) -> None:
    """Write the database of a part, and its pictures in the VOC folder, if there is one."""
    names = []
    with open_db(path, backend, "w") as database, Progress(f"{part}_{backend}", count) as progress:
        for name, content, boxes, maps in pictures:
            datum = caffe_pb2.Datum(data=content, label=-1, encoded=True)
            key = f"{database.count:08d}_VOC/{voc.IMAGES}/{name}.jpg"
            database.put(key, annotated_datum(datum, boxes).SerializeToString())
            if folder is not None:
                folder.write(name, content, (size, size, 3), boxes, maps)
            names.append(name)
            progress(database.count)
    if folder is not None:
        folder.write_set(part, names)
