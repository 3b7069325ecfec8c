"""`minicaffe show --detections`: the boxes that a net finds, and those that are annotated."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import minicaffe
from minicaffe.cli import detections
from minicaffe.data.annotations.records import boxes_of
from minicaffe.data.datasets import shapes
from minicaffe.data.db import open_db
from minicaffe.data.image import decode_image
from minicaffe.pictures.sheet import Frame
from minicaffe.proto import caffe_pb2

#: four priors, one in each quarter of an image; the confidences are biases, so all images have the same detections
NET = """
name: "detector"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 16 stride: 16 } }
layer { name: "loc" type: "InnerProduct" bottom: "pool" top: "loc" inner_product_param { num_output: 16 } }
layer { name: "conf" type: "InnerProduct" bottom: "pool" top: "conf" inner_product_param { num_output: 24 } }
layer { name: "prior" type: "PriorBox" bottom: "pool" bottom: "data" top: "prior" prior_box_param { min_size: 16 } }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "found"
  detection_output_param { num_classes: 6 confidence_threshold: 0.1 nms_param { nms_threshold: 0.5 } } }
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    shapes.prepare(str(folder), train=5, test=1, size=32, voc_folder=True)
    (folder / "net.prototxt").write_text(NET)
    net = minicaffe.Net(str(folder / "net.prototxt"), minicaffe.TEST)
    confidences = np.zeros((4, 6), np.float32)
    confidences[0, 2], confidences[3, 5], confidences[3, 1] = 0.9, 0.8, 0.3
    net.params["conf"][1].data[...] = confidences.ravel()
    net.save(str(folder / "w.caffemodel"))
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """The arguments with which sheets were drawn: lists of tiles, titles, notes."""
    calls = []
    draw = detections.draw_sheet
    monkeypatch.setattr(detections, "draw_sheet", lambda *args: calls.append(args) or draw(*args))
    return calls


def records():
    with open_db("train_lmdb") as database:
        return [caffe_pb2.AnnotatedDatum.FromString(bytes(value)) for _, value in database.items()]


LABELS = ("--labels", "labelmap.prototxt")
DETECT = ("show", "w.caffemodel", "o.png", "--model", "net.prototxt", "--detections")
FOUND = [Frame(0, 0, 0.5, 0.5, 2, "square 0.90"), Frame(0.5, 0.5, 1, 1, 5, "ring 0.80")]


def test_annotated_boxes_of_a_database(folder, run, drawn):
    status, out, err = run("show", "--detections", "train_lmdb", "o.png", *LABELS, "--count", "4")
    assert status == 0 and "Drew the boxes to o.png" in out, err
    ((tiles, title, notes, *_),) = drawn
    names = dict(enumerate(["", "circle", "square", "triangle", "star", "ring"]))
    expected = records()[:4]
    for tile, record in zip(tiles, expected, strict=True):
        assert np.array_equal(tile.picture, decode_image(record.datum.data))
        assert tile.frames == [Frame(*box[1:5], box.label, names[box.label], ":" if box.difficult else "-")
                               for box in boxes_of(record)]  # fmt: skip
    assert title == "4 images" and tiles[3].caption == ["train_000003.jpg"]
    assert notes == [f"{sum(len(boxes_of(record)) for record in expected)} annotated boxes; dotted: difficult"]


def test_annotated_boxes_of_a_voc_folder(folder, run, drawn):
    assert run("show", "--detections", "VOC")[0] == 0 and Path("VOC_detections.png").exists()
    assert run("show", "--detections", "train_lmdb", "--detections=test_lmdb", "o.svg", *LABELS)[0] == 0
    of_voc, of_databases = ({tile.caption[0]: tile.frames for tile in tiles} for tiles, *_ in drawn)
    assert len(of_voc) == 6 and of_voc.keys() == of_databases.keys()
    for name, frames in of_voc.items():
        plain = [frame._replace(group=0) for frame in of_databases[name]]
        assert sorted(frame._replace(group=0) for frame in frames) == sorted(plain)


@pytest.mark.parametrize("labels", ["map", "text", "none"])
def test_detections_beside_annotations(folder, run, drawn, labels):
    Path("names.txt").write_text("background\ncircle\nsquare\ntriangle\nstar\nring\n")
    words = {"map": LABELS, "text": ("--labels", "names.txt"), "none": ()}[labels]
    status, out, err = run(*DETECT, "train_lmdb", *words)
    assert status == 0, err
    assert "5 images, 10 detections of score 0.5 or more" in out and "annotated boxes, dashed; dotted: difficult" in out
    assert "preprocessing (defaults without --like or --preprocess): resized to 32x32" in out
    ((tiles, *_),) = drawn
    found = FOUND if words else [FOUND[0]._replace(text="2 0.90"), FOUND[1]._replace(text="5 0.80")]
    for tile, record in zip(tiles, records(), strict=True):
        *annotated, second, first = tile.frames
        assert_near([first, second], found)
        assert [(each.group, each.text) for each in annotated] == [(box.label, "") for box in boxes_of(record)]
        assert {each.line for each in annotated} <= {"--", ":"}


def assert_near(frames, expected):
    assert [(each.group, each.text, each.line) for each in frames] == [
        (each.group, each.text, "-") for each in expected
    ]
    np.testing.assert_allclose([each[:4] for each in frames], [each[:4] for each in expected], atol=1e-6)


def test_a_threshold_and_images(folder, run, drawn):
    image = "VOC/JPEGImages/train_000002.jpg"
    for paths in ([image], ["VOC/JPEGImages"]):
        status, out, err = run(*DETECT, *paths, "--threshold", "0.2", "--count", "3", *LABELS, "--rgb")
        assert status == 0 and "annotated" not in out, err
    (tiles, *_, bgr, _), (more, *_) = drawn
    texts = [[frame.text for frame in tile.frames] for tile in (*tiles, *more)]
    assert texts == [["circle 0.30", "ring 0.80", "square 0.90"]] * 4 and not bgr


def test_pixels_of_a_record_are_resized(folder, run, drawn):
    pixels = np.arange(3 * 16 * 20, dtype=np.uint8).reshape(3, 16, 20)
    datum = caffe_pb2.Datum(channels=3, height=16, width=20, data=pixels.tobytes())
    with open_db("raw", "leveldb", "w") as database:
        database.put("a", caffe_pb2.AnnotatedDatum(datum=datum).SerializeToString())
    assert run(*DETECT, "raw", *LABELS)[0] == 0
    ((tiles, *_),) = drawn
    assert np.array_equal(tiles[0].picture, pixels) and [frame.group for frame in tiles[0].frames] == [5, 2]


@pytest.mark.parametrize(
    ("param", "first", "second"),
    [
        ("new_height: 32 new_width: 32", (0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)),
        ("transform_param { resize_param { height: 32 width: 32 resize_mode: FIT_LARGE_SIZE_AND_PAD } }",
         (0, -0.5, 0.5, 0.5), (0.5, 0.5, 1, 1.5)),
        ("new_height: 48 new_width: 64 transform_param { crop_size: 32 }",
         (0.25, 1 / 6, 0.5, 0.5), (0.5, 0.5, 0.75, 5 / 6)),
    ],
)  # fmt: skip
def test_boxes_are_carried_back_to_the_image(folder, run, drawn, param, first, second):
    """The net finds its upper left and its lower right quarter; the image has padding around it, or is cropped."""
    Path("block.prototxt").write_text(f"preprocess {{ {param} }}")
    with open_db("wide", "lmdb", "w") as database:
        datum = caffe_pb2.Datum(channels=3, height=20, width=40, data=bytes(3 * 20 * 40))
        database.put("a", caffe_pb2.AnnotatedDatum(datum=datum).SerializeToString())
    status, _, err = run(*DETECT, "wide", *LABELS, "--preprocess", "block.prototxt")
    assert status == 0, err
    ((tiles, *_),) = drawn
    np.testing.assert_allclose([frame[:4] for frame in tiles[0].frames], [second, first], atol=1e-6)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--detections", "nowhere"], "there is no file 'nowhere'"),
        (["--detections", "VOC", "a.png", "b.png"], "--detections without --model draws annotated boxes alone"),
        (["--detections", "VOC", "--samples", "net.prototxt"], "give one of --detections, --samples and --image"),
        (["--detections", "VOC", "--count", "0"], "--count: expected a number above 0, got 0"),
        (["--detections", "VOC", "o.nothing"], "must end in a format that can be written"),
        (["--detections", "plain"], "is no AnnotatedDatum"),
        (["--detections", "VOC", "--labels", "three.txt"], "three.txt has no class 'ring'"),
        (["w.caffemodel", "o.png", "--model", "net.prototxt", "--detections", "VOC"], "give the net's, --labels"),
        (["w.caffemodel", "o.png", "--model", "plain.prototxt", "--detections", "test_lmdb"], "has no DetectionOutput"),
        (["--model", "net.prototxt", "--detections", "train_lmdb"], "need weights: give WEIGHTS"),
    ],
)  # fmt: skip
def test_wrong_command_lines(folder, run, words, sentence):
    Path("three.txt").write_text("background\ncircle\nsquare\n")
    Path("plain.prototxt").write_text(NET[: NET.index('layer { name: "loc"')])
    with open_db("plain", "lmdb", "w") as database:
        datum = caffe_pb2.Datum(channels=1, height=1, width=1, data=b"x")
        database.put("a", datum.SerializeToString())
    status, _, err = run("show", *words)
    assert status == 1 and sentence in err, err
