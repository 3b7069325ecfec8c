"""What `minicaffe check` finds in databases of images with boxes."""

import numpy as np
import pytest

from helpers.annotated import record, write_records
from helpers.checked import MEAN, assert_only, found
from helpers.nets import layer_text

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 10, 8), np.uint8)
LOSS = layer_text("loss", "MultiBoxLoss", "loc conf prior label", "loss", "multibox_loss_param { num_classes: 4 }")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def findings(*boxes, annotated="", net=LOSS, sizes=((10, 8),) * 4):
    images = [np.resize(IMAGE, (3, *size)) for size in sizes]
    write_records("db", [record(image, boxes) for image in images])
    source = 'data_param { source: "db" batch_size: 2 backend: LMDB }'
    more = f"transform_param {{ {MEAN} }} annotated_data_param {{ {annotated} }} {source}"
    data = layer_text("data", "AnnotatedData", "", "data label", more)
    return found(data + net, stages=("data",))


def box(label, xmin=0.1, ymin=0.1, xmax=0.9, ymax=0.5):
    return label, 0, xmin, ymin, xmax, ymax, 0


def test_a_sound_set():
    assert not findings(box(1), box(3))


def test_no_boxes():
    assert_only(findings(), "no-boxes", "none of 4 records", "layer 'data' in TRAIN")


def test_boxes_without_area():
    assert_only(findings(box(1), box(2, xmax=0.1), box(2, xmin=1.2, xmax=1.5)), "boxes-without-area", "8 of 12 boxes")


@pytest.mark.parametrize(
    ("label", "text"),
    [(0, "4 boxes have the label 0, which is that of the background in layer 'loss'"),
     (4, "are 1 to 4, but layer 'loss' (MultiBoxLoss) has the classes 0 to 3: write num_classes: 5")],
)  # fmt: skip
def test_labels(label, text):
    assert_only(findings(box(1), box(label)), "box-labels", text)


YOLO = layer_text("loss", "Yolov3", "map label", "loss", "yolov3_param { num_class: 3 }")
REGION = layer_text("loss", "RegionLoss", "map label", "loss", "region_loss_param { num_class: 3 MORE }")


@pytest.mark.parametrize("net", [YOLO, REGION.replace("MORE", "")])
@pytest.mark.parametrize("labels", [(0, 2), (1, 4)])
def test_labels_of_yolo(net, labels):
    kind = "Yolov3" if net == YOLO else "RegionLoss"
    text = f"are {labels[0]} to {labels[1]}, but layer 'loss' ({kind}) has num_class 3"
    assert_only(findings(*map(box, labels), net=net), "box-labels", text)


@pytest.mark.parametrize(("net", "high"), [(YOLO, 3), (REGION.replace("MORE", "class_map: 'file'"), 9)])
def test_labels_of_yolo_that_fit(net, high):
    assert not findings(box(1), box(high), net=net)


def test_labels_of_two_classes_are_joined():
    assert not findings(box(1), box(3), net=LOSS.replace("num_classes: 4", "num_classes: 2"))


def test_labels_without_a_loss():
    assert not findings(box(0), net="")


def test_label_map():
    assert_only(findings(box(1), annotated='label_map_file: "no.prototxt"'), "label-map-missing", "no.prototxt")


def test_images_of_different_sizes():
    assert_only(findings(box(1), sizes=((10, 8), (8, 10))), "unequal-sizes", "write resize_param or crop_size")


def test_records_without_a_type():
    each = record(IMAGE, [])
    each.ClearField("type")
    write_records("plain", [each])
    source = 'data_param { source: "plain" batch_size: 1 backend: LMDB } annotated_data_param { anno_type: BBOX }'
    net = layer_text("data", "AnnotatedData", "", "data label", source)
    assert_only(found(net, stages=("data",)), "data-unreadable", "must have a type of annotation")


def test_parameters():
    wrong = "batch_sampler { sampler { min_scale: 3 } }"
    assert_only(findings(box(1), annotated=wrong), "data-unreadable", "min_scale")
