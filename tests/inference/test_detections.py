"""The detections of a DetectionOutput: one row for each, the same for every batch size and in every format."""

import csv
import json

import h5py
import numpy as np
import pytest
from PIL import Image

import minicaffe
from minicaffe.errors import DataError
from minicaffe.inference.results import DETECTION, Layout, Rows

#: three priors; the three rows of an image of one column are the confidences of the classes, 0 the background
NET = """
name: "detector"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 3 dim: 1 } } }
layer { name: "locations" type: "Power" bottom: "data" top: "shift" power_param { scale: 0 } }
layer { name: "flat" type: "Flatten" bottom: "data" top: "confidences" }
layer { name: "loc" type: "InnerProduct" bottom: "shift" top: "loc"
  inner_product_param { num_output: 12 weight_filler { type: "constant" value: 0 } } }
layer { name: "priors" type: "DummyData" top: "priors" dummy_data_param {
  shape { dim: 1 dim: 2 dim: 12 } data_filler { type: "constant" value: 0.25 } } }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "confidences" bottom: "priors" top: "found"
  detection_output_param { num_classes: 3 confidence_threshold: 100 nms_param { nms_threshold: 1 } } }
"""
#: the three rows of each picture
PICTURES = [(0, 200, 0), (0, 0, 0), (0, 150, 250), (0, 0, 120)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    minicaffe.Net("net.prototxt", minicaffe.TEST).save("w.caffemodel")
    (tmp_path / "names.txt").write_text("background\ncat\ndog\n")
    lines = []
    for i, rows in enumerate(PICTURES):
        Image.fromarray(np.tile(np.array(rows, np.uint8)[:, None, None], (1, 1, 3))).save(f"{i}.png")
        lines.append(f"{i}.png 0\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


#: (picture, class, confidence) of each detection: three priors, all alike
FOUND = [(f"{i}.png", label, each[label]) for i, each in enumerate(PICTURES) for label in (1, 2) if each[label] > 100
         for _ in range(3)]  # fmt: skip


@pytest.fixture
def infer(run, folder):
    def infer(*words):
        return run("infer", "net.prototxt", "w.caffemodel", "0.png", "1.png", "2.png", "3.png", *words)

    return infer


@pytest.mark.parametrize("batch", ["1", "3", "32"])
def test_a_row_for_each_detection(infer, batch):
    status, out, err = infer("--batch", batch, "--output", "o.csv", "--labels", "names.txt")
    assert status == 0 and f"Saved {len(FOUND)} rows" in out, err
    with open("o.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["filename", *DETECTION]
    names = ["background", "cat", "dog"]
    assert [(row[0], row[1], float(row[2])) for row in rows] == [(a, names[b], c) for a, b, c in FOUND]
    assert {tuple(row[3:]) for row in rows} == {("0.25",) * 4}
    for kind in ("npz", "h5"):
        assert infer("--batch", batch, "--output", f"o.{kind}")[0] == 0
        with np.load("o.npz") if kind == "npz" else h5py.File("o.h5") as file:
            arrays = {key: np.array(file[key]) for key in file}
        assert set(arrays) == {"filename", *DETECTION} and arrays["class"].dtype == np.int64
        files = [name.decode() if isinstance(name, bytes) else name for name in arrays["filename"].tolist()]
        assert list(zip(files, arrays["class"], arrays["confidence"])) == FOUND
        assert all(np.array_equal(arrays[name], np.full(len(FOUND), 0.25)) for name in DETECTION[2:])


@pytest.mark.parametrize("batch", ["1", "32"])
def test_lines(infer, batch):
    status, out, err = infer("--batch", batch, "--format", "jsonl", "--labels", "names.txt")
    assert status == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["filename"], row["class"], row["confidence"]) for row in rows] == FOUND
    assert list(rows[0]) == ["filename", "class", "name", *DETECTION[1:]] and rows[0]["name"] == "cat"
    status, out, err = infer("--batch", batch)
    assert status == 0 and len(out.splitlines()) == len(FOUND), err
    assert out.splitlines()[0] == "0.png: 1 200.0000, box 0.2500 0.2500 0.2500 0.2500"


def test_names_of_a_label_map(folder, infer):
    item = "item {{ name: 'n{0}' label: {0} display_name: '{1}' }}\n"
    (folder / "map.prototxt").write_text(item.format(0, "background") + item.format(2, "dog"))
    status, out, err = infer("--format", "jsonl", "--labels", "map.prototxt")
    assert status == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert {(row["class"], row["name"]) for row in rows} == {(label, ["", "1", "dog"][label]) for _, label, _ in FOUND}
    (folder / "map.prototxt").write_text(item.format(3, "cow"))
    status, out, err = infer("--labels", "map.prototxt")
    assert status == 1 and "map.prototxt has the label 3, but the net has 3 classes, 0 to 2" in err


@pytest.mark.parametrize("kind", ["csv", "jsonl", "npz", "h5"])
def test_pictures_without_a_detection(folder, run, kind):
    status, out, err = run("infer", "net.prototxt", "w.caffemodel", "1.png", "--output", f"o.{kind}")
    assert status == 0 and "Saved 0 rows" in out, err
    if kind == "npz":
        with np.load("o.npz") as file:
            assert file["confidence"].shape == file["filename"].shape == (0,)


def test_labels_of_a_list_are_no_classes_of_detections(folder, run):
    status, out, err = run("infer", "net.prototxt", "w.caffemodel", "list.txt", "--format", "csv")
    assert status == 0 and "accuracy" not in err and out.startswith("filename,label,class,confidence,xmin")
    (folder / "two.txt").write_text("cat\ndog\n")
    for words, error in (
        (["--top", "2"], "--top is for scores of classes, but blob 'found' has detections"),
        (["--labels", "two.txt"], "expected 3"),
        (["--blob", "found", "--blob", "loc"], "blob 'found' of a DetectionOutput layer has a row for each object"),
        (["--blob", "priors"], "axis 0 is not the batch of 4 images; choose another blob with --blob"),
    ):
        status, out, err = run("infer", "net.prototxt", "w.caffemodel", "list.txt", *words)
        assert status == 1 and error in err.splitlines()[-1]


def test_rows_of_another_shape_name_their_input():
    layout = Layout({"rois": (2, 5)})
    layout.table(Rows(["a.jpg"], [None], {"rois": np.zeros((1, 2, 5))}))
    with pytest.raises(DataError, match=r"b.jpg: blob 'rois' has the shape \(3, 5\) for each input, expected \(2, 5\)"):
        layout.table(Rows(["b.jpg"], [None], {"rois": np.zeros((1, 3, 5))}))
