"""The text files beside an SSD database: the label map, and the list of image names and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf import text_format

from minicaffe.proto import caffe_pb2

#: name and display name of label 0 in the label maps of SSD's fork
BACKGROUND = ("none_of_the_above", "background")


def label_map(classes: Sequence[str]) -> caffe_pb2.LabelMap:
    """Return the label map of some classes: label 0 is the background, the classes are 1, 2, ... in their order."""
    background, display = BACKGROUND
    items = [caffe_pb2.LabelMapItem(name=background, label=0, display_name=display)]
    items += [caffe_pb2.LabelMapItem(name=name, label=i, display_name=name) for i, name in enumerate(classes, 1)]
    return caffe_pb2.LabelMap(item=items)


def label_map_text(labels: caffe_pb2.LabelMap) -> str:
    """Return the prototxt of a label map, for `label_map_file`."""
    return text_format.MessageToString(labels, as_utf8=True)


def name_size_text(sizes: Iterable[tuple[str, int, int]]) -> str:
    """Return the text of a `name_size_file`: a line "name height width" for each (name, height, width)."""
    return "".join(f"{name} {height} {width}\n" for name, height, width in sizes)
