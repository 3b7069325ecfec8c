"""The text files beside an SSD database: the label map, and the list of image names and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf import text_format

from minicaffe.data.image_list import int32
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2
from minicaffe.text import quoted, read_text

#: the item of label 0 in the label maps of SSD's fork
BACKGROUND = caffe_pb2.LabelMapItem(name="none_of_the_above", label=0, display_name="background")


def label_map(classes: Sequence[str], display_names: Sequence[str] = ()) -> caffe_pb2.LabelMap:
    """Return the label map of some classes: label 0 is the background, the classes are 1, 2, ... in their order.

    display_names: the names to be shown; () (default): those of the classes.
    """
    items = [BACKGROUND]
    for label, (name, shown) in enumerate(zip(classes, display_names or classes, strict=True), 1):
        items.append(caffe_pb2.LabelMapItem(name=name, label=label, display_name=shown))
    return caffe_pb2.LabelMap(item=items)


def read_classes(path: str, background: bool = False, delimiter: str = " ") -> caffe_pb2.LabelMap:
    """Return the label map of a text file with a line "name", "name label" or "name label display_name" per class.

    Without labels, classes are numbered in their order.  background: begin with the background, label 0 (default
    False).  delimiter: a text, each of whose characters separates fields (default: a space).
    DataError when the file cannot be read, has no lines, or lines with different numbers of fields.
    """
    separators = str.maketrans(dict.fromkeys(delimiter, "\0"))
    lines = [line for line in read_text(path, "list of classes", errors="replace").split("\n") if line.strip()]
    rows = [line.strip().translate(separators).split("\0") for line in lines]
    result = caffe_pb2.LabelMap(item=[BACKGROUND] if background else [])
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), len(result.item)):
        if len(row) > 3 or len(row) != len(rows[0]):
            raise DataError(
                f"list of classes {path}: expected one to three fields, as many in each line, got {quoted(line)}"
            )
        try:
            label = int32(row[1], f"list of classes {path}: label") if len(row) > 1 else number
        except ValueError:
            raise DataError(f"list of classes {path}: the second field must be a label, got {quoted(line)}") from None
        result.item.add(name=row[0], label=label, display_name=row[2] if len(row) > 2 else row[0])
    if not rows:
        raise DataError(f"list of classes {path} is empty")
    return result


def label_map_text(labels: caffe_pb2.LabelMap) -> str:
    """Return the prototxt of a label map, for `label_map_file`."""
    return text_format.MessageToString(labels, as_utf8=True)


def name_size_text(sizes: Iterable[tuple[str, int, int]]) -> bytes:
    """Return the text of a `name_size_file`: a line "name height width" for each (name, height, width).

    Bytes of names that are not UTF-8 are those of the file's name, as `text.read_text` keeps them.
    """
    text = "".join(f"{name} {height} {width}\n" for name, height, width in sizes)
    return text.encode("utf-8", "surrogateescape")
