"""Annotations of images with boxes: XML, JSON of one image and of a set, text, lists of classes, label maps."""

import functools
import json
import zlib

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.data.annotations import coco, lists, text, voc
from minicaffe.data.annotations.records import Box
from minicaffe.data.image import encode_image
from minicaffe.data.label_map import read_label_map

_CLASSES = ("dog", "cat")
_MAP = lists.label_map_text(lists.label_map(_CLASSES)).encode()
_BOXES = [Box(1, 0, 0, 0.5, 1), Box(2, 0.25, 0.25, 1, 1, True)]


@functools.cache
def _picture():
    return encode_image(np.random.default_rng(0).integers(0, 256, (3, 12, 16), np.uint8), "png")


def _case_of(name, label_type, read):
    """Return the function of a content that reads it as an annotation file, and now and then converts an image."""
    files = {"list": f"a.png {name}\n".encode(), "map": _MAP}
    convert = ["convert_annoset", "--anno_type=detection", f"--label_type={label_type}", "--label_map_file=map",
               "--encoded", "./", "list", "db"]  # fmt: skip

    def case(content):
        action = convert if zlib.crc32(content) % 4 == 0 else lambda: read(name)
        return Case({name: content, "a.png": _picture(), **files}, [action])

    return case


# -- XML ---------------------------------------------------------------------------------------------------------------

_DECLARATIONS = (
    b'<!DOCTYPE annotation [<!ENTITY e "x">]>', b'<!DOCTYPE annotation [<!ENTITY % e SYSTEM "/etc/passwd"> %e;]>',
    b'<!DOCTYPE annotation SYSTEM "map">', b'<?xml version="1.0" encoding="utf-7"?>', b"\xff\xfe", b"&e;",
)  # fmt: skip


def _xml_examples():
    return [voc.annotation_xml("a.png", (12, 16, 3), _BOXES, _CLASSES).encode(), b"<annotation/>"]


def _change_xml(rng, content):
    if rng.random() < 0.2:
        at = int(rng.integers(len(content))) if rng.random() < 0.3 else 0
        return content[:at] + mutate.pick(rng, _DECLARATIONS) + content[at:]
    if rng.random() < 0.5:
        spaced = content.replace(b">", b"> ").replace(b"<", b" <")
        return mutate.change_words(rng, spaced)
    return mutate.flip(rng, content)


xml_annotation = Kind("xml_annotation", _xml_examples, _case_of("a.xml", "xml", voc.read_annotation), _change_xml)


# -- JSON --------------------------------------------------------------------------------------------------------------


def _json_examples():
    one = {"category_id": "dog", "bbox": [0, 1.5, 8, 8], "iscrowd": 0}
    return [json.dumps({"image": {"height": 12, "width": 16}, "annotation": [one, one]}).encode()]


def _set_examples():
    content = {
        "images": [{"id": i, "file_name": "a.png", "height": 12, "width": 16} for i in (3, 4)],
        "annotations": [{"image_id": i, "category_id": 7, "bbox": [0, 1.5, 8, 8], "iscrowd": 0} for i in (3, 3, 4)],
        "categories": [{"id": i, "name": name} for i, name in ((7, "dog"), (9, "cat"))],
    }
    return [json.dumps(content).encode()]


def _set_case(content):
    convert = ["convert_annoset", "--coco", "instances.json", "--images", ".", "--label_map_file=map", "db"]
    action = convert if zlib.crc32(content) % 4 == 0 else lambda: coco.read_instances("instances.json").label_map()
    return Case({"instances.json": content, "a.png": _picture()}, [action])


json_annotation = Kind(
    "json_annotation", _json_examples, _case_of("a.json", "json", coco.read_annotation), mutate.change_json
)
coco_instances = Kind("coco_instances", _set_examples, _set_case, mutate.change_json)


# -- text --------------------------------------------------------------------------------------------------------------


def _text_examples():
    return [b"1 0 1.5 8 9\n2 0 0 16 12\n", b"1 0 0 1 1"]


def _class_examples():
    return [b"dog\ncat\n", b"dog 1\ncat 2\n", b"dog 1 A\xc3\xa9\ncat 2 B\n"]


def _class_case(content):
    return Case({"a": content}, [["create_label_map", "a", "map"], lambda: read_label_map("map")])


text_annotation = Kind("text_annotation", _text_examples, _case_of("a.txt", "txt", text.read_annotation),
                       mutate.change_words)  # fmt: skip
class_list = Kind("class_list", _class_examples, _class_case, mutate.change_words)
