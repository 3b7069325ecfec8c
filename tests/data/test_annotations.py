"""Annotation files: XML as of VOC, JSON as of COCO, text; label maps from lists of classes."""

import json

import numpy as np
import pytest

from minicaffe.data.annotations import coco, lists, text, voc
from minicaffe.data.annotations.objects import Annotation, Object
from minicaffe.data.annotations.records import Box, annotated_datum, boxes_of
from minicaffe.data.label_map import LabelMap
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2

LABELS = LabelMap("map", {0: "none", 7: "dog", 8: "cat"}, {})
XML = """<?xml version="1.0"?>
<annotation>
  <size><width>200</width><height>100</height><depth>3</depth></size>
  <object><name>dog</name><pose>Left</pose><difficult>1</difficult>
    <bndbox><xmin>20</xmin><ymin>10</ymin><xmax>100</xmax><ymax>45.5</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
  <object><bndbox><ymax>100</ymax><xmax>200</xmax><ymin>0</ymin><xmin>0</xmin></bndbox><name> cat </name></object>
</annotation>
"""
ONE = {
    "image": {"height": 100, "width": 200},
    "annotation": [
        {"category_id": 18, "bbox": [20, 10, 80, 35.5], "iscrowd": 1},
        {"category_id": "2", "bbox": [0, 0, 200, 100]},
    ],
}
SET = {
    "images": [{"id": 5, "file_name": "b.jpg", "height": 100, "width": 200},
               {"id": 2, "file_name": "a.jpg", "height": 50, "width": 60}],
    "annotations": [{"image_id": 5, "category_id": 18, "bbox": [20, 10, 80, 35.5], "iscrowd": 1, "area": 3},
                    {"image_id": 5, "category_id": 2, "bbox": [0, 0, 200, 100]}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
}  # fmt: skip


def file(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


# -- what is read ------------------------------------------------------------------------------------------------------


def test_xml(tmp_path):
    annotation = voc.read_annotation(file(tmp_path, XML))
    assert annotation.size == (100, 200)
    assert annotation.objects == [Object("dog", 20, 10, 100, 45.5, True), Object("cat", 0, 0, 200, 100, False)]


def test_json_of_one_image(tmp_path):
    annotation = coco.read_annotation(file(tmp_path, json.dumps(ONE)))
    assert annotation.size == (100, 200)
    assert annotation.objects == [Object("18", 20, 10, 100, 45.5, True), Object("2", 0, 0, 200, 100, False)]
    assert coco.read_annotation(file(tmp_path, '{"annotation": []}')).size is None


def test_json_of_a_set(tmp_path):
    instances = coco.read_instances(file(tmp_path, json.dumps(SET)))
    assert [(each.id, each.file, each.annotation.size) for each in instances.images] == [
        (5, "b.jpg", (100, 200)), (2, "a.jpg", (50, 60))]  # fmt: skip
    assert instances.images[0].annotation.objects == [
        Object("18", 20, 10, 100, 45.5, True),
        Object("2", 0, 0, 200, 100),
    ]
    assert not instances.images[1].annotation.objects
    names = [(each.name, each.label, each.display_name) for each in instances.label_map().item]
    assert names == [("none_of_the_above", 0, "background"), ("2", 1, "cat"), ("18", 2, "dog")]


def test_text(tmp_path):
    annotation = text.read_annotation(file(tmp_path, "7 20 10 100 45.5\r\n\n8  0\t0 200 1e2\n"))
    assert annotation.size is None
    assert annotation.objects == [Object(7, 20, 10, 100, 45.5), Object(8, 0, 0, 200, 100)]


def test_xml_in_another_encoding_and_with_a_doctype(tmp_path):
    for content in (XML.replace("dog", "chi\u00eann").replace('"?>', '" encoding="latin1"?>').encode("latin1"),
                    XML.replace("dog", "chi\u00eann").encode("utf-16"),
                    XML.replace("dog", "chi\u00eann").replace("<annotation>", "<!DOCTYPE annotation><annotation>", 1)
                    ):  # fmt: skip
        assert voc.read_annotation(file(tmp_path, content)).objects[0].name == "chi\u00eann"


def test_xml_of_an_editor_that_writes_windows_1252(tmp_path):
    content = XML.replace("dog", "chi\u00ean\u2019n").replace("<annotation>", "<annotation><path>C:\\h\u00e9</path>", 1)
    assert b"encoding" not in content.encode()
    assert voc.read_annotation(file(tmp_path, content.encode("cp1252"))).objects[0].name == "chi\u00ean\u2019n"


# -- boxes -------------------------------------------------------------------------------------------------------------


def test_boxes_are_fractions_of_the_stated_size(log_lines):
    boxes = Annotation("a.xml", (100, 200), [Object("dog", 20, 10, 100, 45.5, True)]).boxes((100, 200), LABELS)
    assert boxes == [Box(7, 0.1, 0.1, 0.5, 0.455, True)] and not log_lines
    boxes = Annotation("a.xml", (100, 200), [Object("dog", 20, 10, 100, 45.5)]).boxes((50, 60), LABELS)
    assert boxes[0].xmin == 0.1 and "about an image of 200x100 pixels, but the image has 60x50" in log_lines[0]


def test_without_a_size_that_of_the_image_is_taken(log_lines):
    boxes = Annotation("a.xml", None, [Object(3, 30, 10, 60, 50)]).boxes((50, 60), None)
    assert boxes == [Box(3, 0.5, 0.2, 1, 1)] and "a.xml states no size: that of the image, 60x50" in log_lines[0]


def test_doubtful_boxes_are_logged(log_lines):
    objects = [Object(1, -1, 0, 5, 5), Object(1, 0, 0, 61, 50), Object(1, 9, 0, 8, 50), Object(1, 7, 0, 7, 50)]
    boxes = Annotation("a", (50, 60), objects).boxes((50, 60), None)
    assert [round(box.xmin * 60) for box in boxes] == [-1, 0, 7]
    assert "1 of 4 boxes have their edges in the wrong order, and are left out" in log_lines[0]
    assert "2 of 4 boxes exceed the image" in log_lines[1]


def test_a_class_that_the_label_map_does_not_have():
    with pytest.raises(DataError, match=r"a.xml: label map map has no class 'dgo' \(did you mean \"dog\"\?\)"):
        Annotation("a.xml", (1, 1), [Object("dgo", 0, 0, 1, 1)]).boxes((1, 1), LABELS)
    with pytest.raises(DataError, match="a.xml has class names, so a label map is needed"):
        Annotation("a.xml", (1, 1), [Object("dog", 0, 0, 1, 1)]).boxes((1, 1), None)


def test_a_record_groups_boxes_by_class():
    boxes = [Box(7, 0, 0, 0.5, 1), Box(2, 0, 0, 1, 1, True), Box(7, 0.5, 0, 1, 1)]
    record = annotated_datum(caffe_pb2.Datum(data=b"x"), boxes)
    groups = [(each.group_label, [one.instance_id for one in each.annotation]) for each in record.annotation_group]
    assert groups == [(7, [0, 1]), (2, [0])] and record.type == caffe_pb2.AnnotatedDatum.BBOX
    assert boxes_of(record) == [boxes[0], boxes[2], boxes[1]]


def test_edges_are_rounded_as_floats_of_32_bits(tmp_path):
    """The fork divides floats of 32 bits: the quotient that is stored is the same."""
    content = ONE | {"annotation": [{"category_id": 1, "bbox": [0.1, 10.7, 33.3, 35.5]}]}
    annotation = coco.read_annotation(file(tmp_path, json.dumps(content)))
    box = boxes_of(annotated_datum(caffe_pb2.Datum(), annotation.boxes((100, 200), LabelMap("", {1: "1"}, {}))))[0]
    x, y, width, height = np.float32([0.1, 10.7, 33.3, 35.5])
    expected = (x / np.float32(200), y / np.float32(100), (x + width) / np.float32(200), (y + height) / np.float32(100))
    assert box[1:5] == tuple(map(float, expected))


# -- what is refused ---------------------------------------------------------------------------------------------------


def changed(old, new):
    assert old in XML
    return XML.replace(old, new, 1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "as XML: no element found"),
        ("<annotation>", "as XML: no element found: line 1"),
        ("\x89PNG", "as XML: not well-formed"),
        ("<html/>", "must have the root element <annotation>, got <html>"),
        (changed("<name>dog</name>", ""), "object 1 must have <name> and <bndbox>"),
        (changed("<name> cat </name>", "<name> </name>"), "object 2 must have <name> and <bndbox>"),
        (changed("<xmin>20</xmin>", ""), "object 1: bndbox has no element xmin"),
        (changed("<xmin>20</xmin>", "<xmin>left</xmin>"), "object 1: bndbox: xmin must be a number, got 'left'"),
        (changed("<xmin>20</xmin>", "<xmin>nan</xmin>"), "object 1: bndbox/xmin must be a number of pixels, got nan"),
        (changed("<xmax>200</xmax>", "<xmax>1e7</xmax>"), "object 2: bndbox/xmax must be a number of pixels"),
        (changed("<width>200</width>", ""), "has no element size/width"),
        (changed("<width>200</width>", "<width>inf</width>"), "size/width must be a number of pixels, got inf"),
        (changed('"?>', '" encoding="nonsense"?>'), "as XML: .*encoding"),
        ("<a>" * 1000 + "</a>" * 1000, "line 1: more than 64 elements inside each other"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "line 1: it declares an entity, 'x', which is"),
        ('<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><annotation/>', "it declares an entity, 'x'"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "declares an entity"),
        ("<annotation>&x;</annotation>", "as XML: undefined entity"),
    ],
)  # fmt: skip
def test_xml_that_is_refused(tmp_path, content, sentence):
    with pytest.raises(DataError, match=f"annotation {tmp_path}/a.*{sentence}"):
        voc.read_annotation(file(tmp_path, content))


def test_entities_that_expand_without_end(tmp_path):
    lines = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 30))
    content = f'<!DOCTYPE a [<!ENTITY e0 "ha">{lines}]><annotation><name>&e29;</name></annotation>'
    with pytest.raises(DataError, match="it declares an entity, 'e0', which is refused"):
        voc.read_annotation(file(tmp_path, content))


@pytest.mark.parametrize("read", [voc.read_annotation, coco.read_annotation, coco.read_instances, text.read_annotation])
def test_a_file_that_does_not_exist(read):
    with pytest.raises(DataError, match="cannot read annotation nowhere: No such file or directory"):
        read("nowhere")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "as JSON: Expecting"),
        ("[" * 100000, "as JSON"),
        ("[]", r"must be a JSON object, \{...\}"),
        ('{"annotation": {}}', 'must have a member "annotation", a list'),
        ('{"image": [], "annotation": []}', 'must have a member "image", an object'),
        ('{"image": {"height": "1", "width": 2}, "annotation": []}', 'image must have a member "height", a whole'),
        ('{"annotation": [1]}', r"annotation\[0\] must have a category_id"),
        ('{"annotation": [{"category_id": true, "bbox": [1, 2, 3, 4]}]}', r"annotation\[0\] must have a category_id"),
        ('{"annotation": [{"category_id": 1}]}', r'annotation\[0\] must have a member "bbox", a list'),
        ('{"annotation": [{"category_id": 1, "bbox": [1, 2, 3]}]}', r"bbox must be \[xmin, ymin, width, height\]"),
        ('{"annotation": [{"category_id": 1, "bbox": [1, 2, 3, "4"]}]}', "bbox must be"),
        ('{"annotation": [{"category_id": 1, "bbox": [1, 2, 3, NaN]}]}', "bbox must be a number of pixels, got nan"),
        ('{"annotation": [{"category_id": 1, "bbox": [1, 2, 3, 1' + "0" * 400 + "]}]}", "bbox must be a number of"),
    ],
)  # fmt: skip
def test_json_of_one_image_that_is_refused(tmp_path, content, sentence):
    with pytest.raises(DataError, match=f"annotation {tmp_path}/a.*{sentence}"):
        coco.read_annotation(file(tmp_path, content))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": None}, 'must have a member "images", a list'),
        ({"images": [{"id": 5}]}, r'images\[0\] must have a member "file_name", a text'),
        ({"images": SET["images"] + SET["images"][:1]}, r"images\[2\] repeats the id 5 of one before"),
        ({"images": SET["images"][1:]}, r"annotations\[0\]: there is no image with id 5"),
        ({"categories": SET["categories"][:1]}, r"annotations\[1\]: there is no category with id 2"),
        ({"categories": [{"id": 18}, {"id": 2, "name": "cat"}]}, 'category 18 must have a member "name", a text'),
        ({"categories": [{"id": 18, "name": "\ud800"}, {"id": 2, "name": "cat"}]}, '"name" has half a surrogate pair'),
        ({"categories": [{"id": 1 << 70, "name": "dog"}]}, r'categories\[0\] must have a member "id", a whole number'),
    ],
)  # fmt: skip
def test_json_of_a_set_that_is_refused(tmp_path, change, sentence):
    with pytest.raises(DataError, match=f"annotation {tmp_path}/a: .*{sentence}|annotation {tmp_path}/a.*{sentence}"):
        coco.read_instances(file(tmp_path, json.dumps(SET | change)))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("7 1 2 3\n", "line 1: expected \"label xmin ymin xmax ymax\", got '7 1 2 3'"),
        ("7 1 2 3 4\n7 1 2 3 4 5\n", "line 2: expected"),
        ("dog 1 2 3 4\n", "line 1: expected"),
        ("7 1 2 3 inf\n", "line 1: an edge must be a number of pixels, got inf"),
        ("99999999999 1 2 3 4\n", "line 1: label 99999999999 is beyond 32 bits"),
    ],
)
def test_text_that_is_refused(tmp_path, content, sentence):
    with pytest.raises(DataError, match=f"annotation {tmp_path}/a.*{sentence}"):
        text.read_annotation(file(tmp_path, content))


# -- lists of classes --------------------------------------------------------------------------------------------------


def items(*args, **options):
    return [(each.name, each.label, each.display_name) for each in lists.read_classes(*args, **options).item]


def test_label_maps_from_lists(tmp_path):
    background = ("none_of_the_above", 0, "background")
    assert items(file(tmp_path, "dog\ncat\n")) == [("dog", 0, "dog"), ("cat", 1, "cat")]
    assert items(file(tmp_path, "dog\ncat\n"), background=True) == [background, ("dog", 1, "dog"), ("cat", 2, "cat")]
    assert items(file(tmp_path, "dog 5\ncat 3"), background=True) == [background, ("dog", 5, "dog"), ("cat", 3, "cat")]
    assert items(file(tmp_path, "18,5:a dog\n"), delimiter=",:") == [("18", 5, "a dog")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("dog 1\ncat\n", "as many in each line, got 'cat'"),
        ("a b c d", "one to three fields"),
        ("dog x", "the second field must be a label, got 'dog x'"),
        ("\n", "is empty"),
    ],
)
def test_lists_of_classes_that_are_refused(tmp_path, content, sentence):
    with pytest.raises(DataError, match=sentence):
        lists.read_classes(file(tmp_path, content))
