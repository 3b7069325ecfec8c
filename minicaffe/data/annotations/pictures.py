"""Images with their boxes, if they have any: from databases of AnnotatedDatums, folders of VOC, folders of images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.data.annotations import voc
from minicaffe.data.annotations.objects import Object
from minicaffe.data.annotations.records import boxes_of
from minicaffe.data.datum import datum_to_array, parsed_annotated, record_name
from minicaffe.data.db import open_db
from minicaffe.data.image import decode_image
from minicaffe.data.image_file import read_bytes, size_of


class AnnotatedImage(NamedTuple):
    """An image, and its objects, with edges as fractions of its width and height.

    content: the bytes of an image file, or the pixels of a record (C, H, W).
    """

    name: str
    content: bytes | np.ndarray
    objects: list[Object]

    def pixels(self) -> np.ndarray:
        """Return the image, (C, H, W); DataError when it cannot be decoded."""
        return decode_image(self.content, None, self.name) if isinstance(self.content, bytes) else self.content


def database_images(path: str, backend: str) -> Iterator[AnnotatedImage]:
    """Yield the images and boxes of a database, by its keys; DataError for a record that is no AnnotatedDatum."""
    with contextlib.closing(open_db(path, backend)) as database:
        for key, value in database.items():
            name = record_name(key, path)
            record = parsed_annotated(value, name)
            content = record.datum.data if record.datum.encoded else datum_to_array(record.datum, None, name)
            objects = [Object(*box) for box in boxes_of(record, name)]
            yield AnnotatedImage(key.decode(errors="replace"), content, objects)


def voc_images(folder: str) -> Iterator[AnnotatedImage]:
    """Yield the images and objects of a folder of VOC, by the names of its annotations."""
    for name in sorted(os.listdir(os.path.join(folder, voc.ANNOTATIONS))):
        if name.endswith(".xml"):
            annotation = voc.read_annotation(os.path.join(folder, voc.ANNOTATIONS, name))
            path = os.path.join(folder, voc.image_of(folder, name.removesuffix(".xml")))
            size = annotation.size or size_of(path)[::-1]
            yield AnnotatedImage(path, read_bytes(path), [each.scaled(*size) for each in annotation.objects])


def file_images(paths: Iterable[str]) -> Iterator[AnnotatedImage]:
    """Yield the images of some files, without objects."""
    return (AnnotatedImage(path, read_bytes(path), []) for path in paths)
