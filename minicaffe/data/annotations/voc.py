"""Annotation files and folders of PASCAL VOC (Everingham et al., 2010), whose XML files ILSVRC has, too.

An edge is a number of pixels, used as it is: as in SSD's fork, the 1 from which VOC counts pixels is not subtracted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from minicaffe.data.annotations.objects import Annotation, Object, edge
from minicaffe.data.annotations.records import Box
from minicaffe.data.annotations.xml_file import read_xml
from minicaffe.errors import DataError
from minicaffe.files import NewFolder
from minicaffe.text import quoted, read_names

IMAGES, ANNOTATIONS, MAPS, SETS = "JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"

#: the twenty classes of VOC 2007 to 2012, labels 1 to 20
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_EXTENSIONS = (".jpg", ".jpeg", ".JPEG", ".JPG", ".png", ".PNG", ".bmp")  # of images; VOC has .jpg, ILSVRC .JPEG
_EDGES = ("xmin", "ymin", "xmax", "ymax")


# -- annotation files --------------------------------------------------------------------------------------------------


def read_annotation(path: str) -> Annotation:
    """Read an XML file of VOC or ILSVRC.

    Objects are the children `object` of the root, their names those of classes; parts of objects are left out.
    DataError, naming file and element, for what is missing or of another form.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"annotation {path} must have the root element <annotation>, got <{root.tag[:100]}>")
    where = f"annotation {path}"
    objects = [_object(each, f"{where}: object {i}") for i, each in enumerate(root.iterfind("object"), 1)]
    return Annotation(where, _size(root, where), objects)


def _size(root: Element, where: str) -> tuple[int, int] | None:
    if root.find("size") is None:
        return None
    height, width = (
        edge(_number(root, f"size/{name}", where), f"{where}: size/{name}") for name in ("height", "width")
    )
    return (int(height), int(width)) if min(height, width) >= 1 else None


def _object(element: Element, where: str) -> Object:
    name, box = (element.findtext("name") or "").strip(), element.find("bndbox")
    if not name or box is None:
        raise DataError(f"{where} must have <name> and <bndbox>")
    xmin, ymin, xmax, ymax = (edge(_number(box, tag, f"{where}: bndbox"), f"{where}: bndbox/{tag}") for tag in _EDGES)
    return Object(name, xmin, ymin, xmax, ymax, (element.findtext("difficult") or "").strip() == "1")


def _number(element: Element, path: str, where: str) -> float:
    text = element.findtext(path)
    if text is None:
        raise DataError(f"{where} has no element {path}")
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: {path} must be a number, got {quoted(text)}") from None


def annotation_xml(file: str, shape: tuple[int, int, int], boxes: Iterable[Box], classes: Sequence[str]) -> str:
    """Return VOC's annotation of an image of shape (height, width, channels); classes: the names of labels 1, 2, ...

    Edges are rounded to whole numbers of pixels.
    """
    height, width, depth = shape
    lines = ["<annotation>", f"\t<filename>{escape(file)}</filename>"]
    lines += [f"\t<size><width>{width}</width><height>{height}</height><depth>{depth}</depth></size>"]
    for box in boxes:
        edges = zip(_EDGES, box[1:5], (width, height) * 2, strict=True)
        corners = "".join(f"<{name}>{round(fraction * side)}</{name}>" for name, fraction, side in edges)
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(classes[box.label - 1])}</name>",
            f"\t\t<difficult>{int(box.difficult)}</difficult>",
            f"\t\t<bndbox>{corners}</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


# -- folders -----------------------------------------------------------------------------------------------------------


def read_set(folder: str, name: str) -> list[tuple[str, str]]:
    """Return the paths of image and annotation, below `folder`, for each image of a set, such as "trainval".

    Each line of the set's list begins with the name of an image.
    DataError when the folder has no such set, and, with the names of those that it has, for an unknown name.
    """
    path = os.path.join(folder, SETS, f"{name}.txt")
    if not os.path.isfile(path):
        raise DataError(f"there is no set '{name}' in {os.path.join(folder, SETS)}{_known_sets(folder)}")
    ids = [line.split()[0] for line in read_names(path, "set of images")]
    if not ids:
        raise DataError(f"set of images {path} is empty")
    return [(image_of(folder, each), f"{ANNOTATIONS}/{each}.xml") for each in ids]


def _known_sets(folder: str) -> str:
    parent = os.path.join(folder, SETS)
    names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    known = [name.removesuffix(".txt") for name in names if name.endswith(".txt") and "_" not in name]
    return f": it has {', '.join(known[:8])}" if known else ""


def image_of(folder: str, name: str) -> str:
    """Return the path below `folder` of the image with this name; that of a JPEG if there is none."""
    paths = [f"{IMAGES}/{name}{extension}" for extension in _EXTENSIONS]
    return next((path for path in paths if os.path.isfile(os.path.join(folder, path))), paths[0])


class FolderWriter:
    """Writer of a folder of VOC's layout: JPEGImages, Annotations, SegmentationClass, and ImageSets/Main with one list
    per set.

    A context manager: the folder has its name when the block is complete, and is removed if it raises.

    path: the folder, which does not exist yet.  classes: the names of labels 1, 2, ...
    DataError when it exists already or cannot be written.
    """

    def __init__(self, path: str, classes: Sequence[str]) -> None:
        self._path, self._classes = path, classes
        if os.path.exists(path):
            raise DataError(f"{path} exists already: remove it first")
        with self._errors():
            self._new = NewFolder(path)
            for name in (IMAGES, ANNOTATIONS, MAPS, SETS):
                os.makedirs(os.path.join(self._new.temporary, name))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"cannot write folder {self._path}: {error.strerror or error}") from error

    def write(self, name: str, jpeg: bytes, shape: tuple[int, int, int], boxes: Iterable[Box], labels: bytes) -> None:
        """Write an image, the content of a JPEG file of this shape (height, width, channels), and its annotation.

        labels: the content of a PNG file, the label map.
        """
        self._write(f"{IMAGES}/{name}.jpg", jpeg)
        self._write(f"{MAPS}/{name}.png", labels)
        text = annotation_xml(f"{name}.jpg", shape, boxes, self._classes)
        self._write(f"{ANNOTATIONS}/{name}.xml", text.encode())

    def write_set(self, name: str, images: Sequence[str]) -> None:
        """Write the list of the images of a set, such as "train"."""
        self._write(f"{SETS}/{name}.txt", "".join(f"{each}\n" for each in images).encode())

    def _write(self, path: str, content: bytes) -> None:
        with self._errors(), open(os.path.join(self._new.temporary, path), "wb") as file:
            file.write(content)

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(self, kind, value, traceback) -> None:
        try:
            if kind is None:
                with self._errors():
                    self._new.complete(flush=False)
        finally:
            self._new.close()
