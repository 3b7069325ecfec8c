"""Folders and annotation files of PASCAL VOC (Everingham et al., 2010): XML with the boxes of each image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from minicaffe.data.annotations.records import Box
from minicaffe.files import write_atomically

IMAGES, ANNOTATIONS, SETS = "JPEGImages", "Annotations", os.path.join("ImageSets", "Main")


class FolderWriter:
    """Writer of a folder of VOC's layout: JPEGImages, Annotations, and ImageSets/Main with one list per set.

    folder: created if it does not exist.  classes: the names of labels 1, 2, ...
    OSError when a folder cannot be created.
    """

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        self._folder, self._classes = folder, classes
        for name in (IMAGES, ANNOTATIONS, SETS):
            os.makedirs(os.path.join(folder, name), exist_ok=True)

    def write(self, name: str, jpeg: bytes, shape: tuple[int, int, int], boxes: Iterable[Box]) -> None:
        """Write an image, the content of a JPEG file of this shape (height, width, channels), and its annotation."""
        write_atomically(os.path.join(self._folder, IMAGES, f"{name}.jpg"), jpeg)
        text = annotation_xml(f"{name}.jpg", shape, boxes, self._classes)
        write_atomically(os.path.join(self._folder, ANNOTATIONS, f"{name}.xml"), text)

    def write_set(self, name: str, images: Sequence[str]) -> None:
        """Write the list of the images of a set, such as "train"."""
        write_atomically(os.path.join(self._folder, SETS, f"{name}.txt"), "".join(f"{each}\n" for each in images))


def annotation_xml(file: str, shape: tuple[int, int, int], boxes: Iterable[Box], classes: Sequence[str]) -> str:
    """Return VOC's annotation of an image of shape (height, width, channels).

    Edges are written as whole numbers of pixels from the image's left or top edge, as convert_annoset reads them.
    """
    height, width, depth = shape
    lines = ["<annotation>", f"\t<filename>{escape(file)}</filename>"]
    lines += [f"\t<size><width>{width}</width><height>{height}</height><depth>{depth}</depth></size>"]
    for box in boxes:
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box[1:5], (width, height) * 2, strict=True)
        corners = "".join(f"<{name}>{round(edge * side)}</{name}>" for name, edge, side in edges)
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(classes[box.label - 1])}</name>",
            f"\t\t<difficult>{int(box.difficult)}</difficult>",
            f"\t\t<bndbox>{corners}</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
