"""Annotations as plain text: a line "label xmin ymin xmax ymax" for each object, with edges in pixels."""

from __future__ import annotations

from minicaffe.data.annotations.objects import Annotation, Object, edge
from minicaffe.data.image_list import int32
from minicaffe.errors import DataError
from minicaffe.text import quoted, read_text


def read_annotation(path: str) -> Annotation:
    """Read a text file of boxes; it does not state the image's size.

    DataError, with the line number, for a line of another form.
    """
    where = f"annotation {path}"
    lines = enumerate(read_text(path, "annotation").split("\n"), 1)
    objects = [_object(line, f"{where}, line {i}") for i, line in lines if line.strip()]
    return Annotation(where, None, objects, expects_size=False)


def _object(line: str, where: str) -> Object:
    words = line.split()
    try:
        label, *edges = words
        xmin, ymin, xmax, ymax = (edge(float(each), f"{where}: an edge") for each in edges)
        return Object(int32(label, f"{where}: label"), xmin, ymin, xmax, ymax)
    except ValueError:
        raise DataError(f'{where}: expected "label xmin ymin xmax ymax", got {quoted(line)}') from None
