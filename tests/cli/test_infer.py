"""`minicaffe infer`: rows against the net's forward pass, in every format, from every kind of input."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

import minicaffe
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image, read_image, resize

DEPLOY = """
name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 7 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
LIKE = """
layer { name: "set" type: "ImageData" top: "data" top: "label" image_data_param { source: "none.txt" new_height: 9
  new_width: 8 } transform_param { mean_value: 50 mean_value: 60 mean_value: 70 crop_h: 6 crop_w: 5 scale: 0.5 } }
"""
NAMES = [f"pictures/{i}.png" for i in range(5)]
CLASSES = ["cat", "dog", "=1+1", "b,d", "é", "f", "g"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working folder with a net, its weights, a train_val.prototxt, five pictures, and a list of them with labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    (tmp_path / "train_val.prototxt").write_text(LIKE)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    minicaffe.set_random_seed(1)
    minicaffe.Net("deploy.prototxt", minicaffe.TEST).save("w.caffemodel")
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        Image.fromarray(rng.integers(0, 256, (10 + i, 12, 3), np.uint8)).save(name)
    (tmp_path / "list.txt").write_text("".join(f"{name} {i % 3}\n" for i, name in enumerate(NAMES)))
    return tmp_path


@pytest.fixture
def infer(run):
    return lambda *words: run("infer", "deploy.prototxt", "w.caffemodel", *words)


def expected(blob="prob", rgb=False):
    """The blob for the five pictures as `LIKE` preprocesses them, by hand."""
    images = []
    for name in NAMES:
        image = resize(read_image(name)[::-1] if rgb else read_image(name), 9, 8)[:, 1:7, 1:6].astype(np.float32)
        images.append((image - np.array([50, 60, 70], np.float32)[:, None, None]) * np.float32(0.5))
    net = minicaffe.Net("deploy.prototxt", minicaffe.TEST, weights="w.caffemodel")
    net.blobs["data"].reshape(5, 3, 6, 5)
    net.reshape()
    return net.forward(blobs=[blob], data=np.stack(images))[blob].copy()


def test_lines_of_text(folder, infer):
    status, out, err = infer("pictures", "--like", "train_val.prototxt", "--labels", "names.txt", "--top", "2")
    assert status == 0, err
    for line, name, row in zip(out.splitlines(), NAMES, expected(), strict=True):
        best = np.argsort(-row)[:2]
        assert line == f"{name}: " + ", ".join(f"{CLASSES[i]} {row[i]:.4f}" for i in best)
    first, *_, last = err.splitlines()
    assert first == (
        "preprocessing (ImageData layer 'set' of train_val.prototxt): resized to 9x8, the central 6x5, minus the mean "
        "50, 60, 70, times 0.5; channels BGR, as ImageData and convert_imageset store them; a net trained on RGB "
        "records, such as CIFAR-10's own, needs --rgb"
    )
    assert re.fullmatch(r"a batch, p50, p95, p99: net .* ms; end to end .* ms", last)
    assert re.search(r"^5 images in .* s: .* images/s$", err, re.MULTILINE)


@pytest.mark.parametrize("batch", ["1", "2", "5", "32"])
def test_csv(folder, infer, batch):
    status, out, err = infer("pictures", "--like", "train_val.prototxt", "--output", "o.csv", "--batch", batch)
    assert (status, out) == (0, "Saved 5 rows to o.csv\n"), err
    with open("o.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["filename", *(f"prob[{i}]" for i in range(7))]
    assert [row[0] for row in rows] == NAMES
    np.testing.assert_allclose(np.array([row[1:] for row in rows], np.float32), expected(), rtol=2e-6)


def test_maps_of_scores_have_shares_of_places(folder, run):
    """The net of one 1x1 convolution, of the identity: the best class of a place is its brightest channel."""
    (folder / "maps.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 2 dim: 2 } } } '
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" '
        "convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }"
    )
    net = minicaffe.Net("maps.prototxt", minicaffe.TEST)
    net.params["conv"][0].data[...] = np.eye(3)[..., None, None]
    net.save("maps.caffemodel")
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, :, 0] = colours[1, 0, 0] = colours[1, 1, 1] = 9  # three red places, class 2, and a green one, class 1
    Image.fromarray(colours).save("places.png")
    (folder / "colours.txt").write_text("blue\ngreen\nred\n")
    words = ("infer", "maps.prototxt", "maps.caffemodel", "places.png")
    line = "places.png: conv 3x2x2, best class of each place: {} 75.00%, {} 25.00%\n"
    assert run(*words)[1] == line.format(2, 1)
    assert run(*words, "--labels", "colours.txt")[1] == line.format("red", "green")
    status, _, err = run(*words, "--top", "2")
    assert status == 1 and "--top is for scores of classes, but blob 'conv' has maps, (3, 2, 2)" in err
    assert run(*words, "--labels", "colours.txt", "--output", "maps.csv")[0] == 0
    assert (folder / "maps.csv").read_text().splitlines()[0].split(",")[-1] == "conv[11]"


def test_csv_of_class_names_and_labels(folder, infer):
    assert infer("list.txt", "--labels", "names.txt", "--output", "o.csv")[0] == 0
    with open("o.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["filename", "label", "cat", "dog", "'=1+1", "b,d", "é", "f", "g"]
    assert [row[1] for row in rows] == ["0", "1", "2", "0", "1"]
    assert infer("list.txt", NAMES[0], "--labels", "names.txt", "--output", "o.csv", "--top", "2")[0] == 0
    with open("o.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["filename", "label", "class1", "score1", "class2", "score2"]
    assert rows[-1][1] == "" and rows[-1][2:] == rows[0][2:]


def test_json_lines(folder, infer):
    words = ("--like", "train_val.prototxt", "--blob", "prob", "--blob", "conv", "--format", "jsonl")
    status, out, err = infer("list.txt", *words)
    assert status == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["filename"], row["label"]) for row in rows] == [(name, i % 3) for i, name in enumerate(NAMES)]
    for blob in ("prob", "conv"):
        np.testing.assert_allclose(np.float32([row[blob] for row in rows]), expected(blob), rtol=2e-6, atol=1e-6)
    status, out, err = infer("pictures", "--format", "jsonl", "--top", "3", "--labels", "names.txt")
    for row in map(json.loads, out.splitlines()):
        assert [CLASSES[each["class"]] for each in row["top"]] == [each["name"] for each in row["top"]]
        scores = [each["score"] for each in row["top"]]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", ["o.npz", "o.h5"])
@pytest.mark.parametrize("batch", ["2", "9"])
def test_arrays(folder, infer, name, batch, monkeypatch):
    monkeypatch.setattr("minicaffe.inference.writers._AT_ONCE", 100)
    words = ("--like", "train_val.prototxt", "--blob", "ip", "--blob", "conv", "--batch", batch)
    assert infer("list.txt", *words, "--output", name)[0] == 0
    if name.endswith("npz"):
        with np.load(name, allow_pickle=False) as file:
            found = dict(file)
    else:
        with h5py.File(name) as file:
            found = {key: values[()] for key, values in file.items()}
        found["filename"] = np.array([each.decode() for each in found["filename"]])
    assert set(found) == {"filename", "label", "ip", "conv"}
    assert found["filename"].tolist() == NAMES and found["label"].tolist() == [0, 1, 2, 0, 1]
    for blob in ("ip", "conv"):
        assert found[blob].dtype == np.float32
        np.testing.assert_allclose(found[blob], expected(blob), rtol=2e-6, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text on other systems")
@pytest.mark.parametrize("kind", ["csv", "jsonl", "npz", "h5"])
def test_names_in_another_encoding(folder, infer, kind):
    name = os.fsdecode(b"\xff.png")
    os.link(NAMES[0], name)
    status, _, err = infer(name, "--output", f"o.{kind}")
    assert status == 0 and "(defaults without --like or --preprocess)" in err
    if kind == "h5":
        with h5py.File("o.h5") as file:
            assert file["filename"][0] == b"\xff.png"
    elif kind == "npz":
        with np.load("o.npz") as file:
            assert file["filename"].tolist() == [name]
    else:
        assert "ff.png" in (folder / f"o.{kind}").read_text(encoding="utf-8")


def test_arrays_of_the_best_classes(folder, infer):
    assert infer("pictures", "--like", "train_val.prototxt", "--output", "o.npz", "--top", "3")[0] == 0
    order = np.argsort(-expected(), axis=1, kind="stable")[:, :3]
    with np.load("o.npz") as file:
        assert np.array_equal(file["top_class"], order)
        np.testing.assert_allclose(file["top_score"], np.take_along_axis(expected(), order, 1), rtol=2e-6)


def test_rgb_and_other_changes(folder, infer):
    words = ("--like", "train_val.prototxt", "--rgb", "--output", "o.npz")
    status, _, err = infer("pictures", *words)
    assert (
        status == 0 and "(ImageData layer 'set' of train_val.prototxt, channels RGB)" in err and "channels RGB" in err
    )
    with np.load("o.npz") as file:
        np.testing.assert_allclose(file["prob"], expected(rgb=True), rtol=2e-6)
    np.save("mean.npy", np.stack([np.full((9, 8), value) for value in (50, 60, 70)]))
    (folder / "own.prototxt").write_text(
        "preprocess { transform_param { scale: 0.5 mean_value: 1 crop_h: 6 crop_w: 5 } }"
    )
    words = ("--preprocess", "own.prototxt", "--mean-file", "mean.npy", "--resize", "9,8", "--output", "o.npz")
    status, _, err = infer("pictures", *words)
    assert status == 0 and "(preprocess block of own.prototxt, size 9x8, other mean values)" in err
    with np.load("o.npz") as file:
        np.testing.assert_allclose(file["prob"], expected(), rtol=2e-6)


def test_a_deploy_prototxt_with_its_own_block(folder, infer):
    block = "preprocess { new_height: 9 new_width: 8 transform_param { scale: 0.5 mean_value: 50 mean_value: 60 "
    (folder / "deploy.prototxt").write_text(f"{block} mean_value: 70 crop_h: 6 crop_w: 5 }} }}\n{DEPLOY}")
    status, out, err = infer("pictures", "--format", "csv")
    assert status == 0 and "preprocess block of deploy.prototxt" in err
    rows = [row[1:] for row in csv.reader(io.StringIO(out))][1:]
    np.testing.assert_allclose(np.array(rows, np.float32), expected(), rtol=2e-6)


def test_accuracy_of_labelled_inputs(folder, infer):
    best = expected().argmax(axis=1)
    lines = [f"{name} {best[i] if i < 3 else (best[i] + 1) % 7}\n" for i, name in enumerate(NAMES)]
    (folder / "list.txt").write_text("".join(lines))
    status, _, err = infer("list.txt", "--like", "train_val.prototxt")
    assert status == 0 and "accuracy 0.6000, top-5 " in err and "of 5 labelled images" in err


def test_labels_that_are_no_class_are_left_out_of_the_accuracy(folder, infer):
    best = expected().argmax(axis=1)
    (folder / "list.txt").write_text(f"{NAMES[0]} 7\n{NAMES[1]} -1\n{NAMES[2]} {best[2]}\n")
    status, _, err = infer("list.txt", "--like", "train_val.prototxt")
    assert status == 0 and "accuracy 1.0000, top-5 1.0000, of 1 labelled images; 2 labels are no class\n" in err
    (folder / "list.txt").write_text(f"{NAMES[0]} -1\n")
    status, _, err = infer("list.txt")
    assert status == 0 and "\n1 label is no class\n" in err and "accuracy" not in err


@pytest.mark.parametrize("blob", ["conv", "ip"])
def test_no_accuracy_of_blobs_that_are_no_output(folder, infer, blob):
    status, _, err = infer("list.txt", "--blob", blob, "--output", "o.npz")
    assert status == 0 and "accuracy" not in err
    status, _, err = infer("list.txt", "--blob", "prob", "--blob", blob, "--output", "o.npz")
    assert status == 0 and "accuracy" in err


def test_records_arrays_and_standard_input(folder, infer, monkeypatch):
    pixels = np.random.default_rng(3).integers(0, 256, (4, 3, 6, 5), np.uint8)
    with open_db("db", "lmdb", "w") as database:
        for i, image in enumerate(pixels):
            database.put(f"{i}", array_to_datum(image, i).SerializeToString())
    np.save("rows.npy", pixels.astype(np.float32))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{NAMES[3]}\n".encode())))
    status, out, err = infer("db", "rows.npy", "-", "--format", "csv", "--batch", "3")
    assert status == 0, err
    head, *rows = csv.reader(io.StringIO(out))
    assert [row[0] for row in rows] == [*(f"db:{i}" for i in range(4)), *(f"rows.npy[{i}]" for i in range(4)), NAMES[3]]
    assert [row[1] for row in rows] == ["0", "1", "2", "3", "", "", "", "", ""]
    assert [row[2:] for row in rows[:4]] == [row[2:] for row in rows[4:8]]


def test_damaged_images_are_left_out_on_demand(folder, infer):
    (folder / "pictures" / "1a.jpg").write_bytes(b"\xff\xd8\xff")
    status, out, err = infer("pictures", "--output", "o.csv")
    assert status == 1 and err.splitlines()[-1].startswith("minicaffe: cannot decode pictures/1a.jpg: ")
    assert not list(folder.glob("*o.csv*"))
    status, out, err = infer("pictures", "--output", "o.csv", "--skip-bad", "--batch", "2")
    assert status == 0 and "skipped: cannot decode pictures/1a.jpg: " in err and "1 skipped" in err
    with open("o.csv") as file:
        assert [row[0] for row in csv.reader(file)][1:] == NAMES
    status, _, err = infer("pictures/1a.jpg", "--skip-bad", "--output", "none.csv")
    assert status == 1 and "no input was run: 1 could not be read" in err and not (folder / "none.csv").exists()


def test_a_net_whose_input_is_no_image(folder, run):
    (folder / "rows.prototxt").write_text(
        'input: "x" input_shape { dim: 1 dim: 3 } layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" '
        'inner_product_param { num_output: 2 weight_filler { type: "constant" value: 1 } } }'
    )
    minicaffe.Net("rows.prototxt", minicaffe.TEST).save("rows.caffemodel")
    np.save("rows.npy", [[1, 2, 3], [4, 5, 6]])
    status, out, err = run("infer", "rows.prototxt", "rows.caffemodel", "rows.npy", "--format", "csv")
    assert (status, out) == (0, "filename,y[0],y[1]\nrows.npy[0],6.0,6.0\nrows.npy[1],15.0,15.0\n"), err
    assert err.startswith("no preprocessing: the arrays are the net's input 'x' as they are\n")


def test_errors_name_arguments_as_they_are_written(folder, run):
    for words, error in (
        (["infer", "nope.prototxt", "w.caffemodel", "pictures"], "minicaffe: MODEL: there is no file 'nope.prototxt'"),
        (["infer", "deploy.prototxt", "nope", "pictures"], "minicaffe: WEIGHTS: there is no file 'nope'"),
        (["infer", "", "w.caffemodel", "pictures"], "minicaffe: need a model definition: give MODEL"),
        (["export", "nope.prototxt", "w.caffemodel", "o.onnx"], "minicaffe: MODEL: there is no file 'nope.prototxt'"),
        (["export", "deploy.prototxt", "nope", "o.onnx"], "minicaffe: WEIGHTS: there is no file 'nope'"),
    ):
        status, _, err = run(*words)
        assert status == 1 and err.splitlines()[-1] == error


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["absent"], "there is no file or folder 'absent'"),
        (["pictures", "--like", "absent.prototxt"], "--like: there is no file 'absent.prototxt'"),
        (["pictures", "--like", "deploy.prototxt"], "deploy.prototxt has no preprocess block and, in TEST, no data"),
        (["pictures", "--like", "a", "--preprocess", "b"], "give --like or --preprocess, but not both"),
        (["pictures", "--resize", "9"], "--resize: expected height,width, got '9'"),
        (["pictures", "--batch", "0"], "--batch: expected a number of at least 1, got 0"),
        (["pictures", "--format", "npz"], "--format npz is for files: give --output FILE"),
        (["pictures", "--output", "x.png"], "expected a file that ends in .csv, .jsonl, .npz or .h5, got 'x.png'"),
        (["pictures", "--output", "no/x.csv"], "cannot write 'no/x.csv'"),
        (["pictures", "--blob", "fc7"], "the net has no blob 'fc7'"),
        (["pictures", "--labels", "list.txt"], "labels 'list.txt': expected 7 names, one for each class, got 5"),
        (["pictures", "--mean-file", "absent"], "--mean-file: there is no file 'absent'"),
        (
            ["pictures", "--mean-file", "list.txt"],
            "defaults without --like or --preprocess, mean list.txt: mean file list",
        ),
        (["pictures", "--top", "0"], "--top: expected a number of at least 1, got 0"),
        (["empty.npy"], "there was no input to run: the inputs hold no image, and no array or record"),
    ],
)
def test_errors(folder, infer, words, error):
    np.save("empty.npy", np.zeros((0, 3, 6, 5), np.float32))
    status, out, err = infer(*words)
    assert (status, out) == (1, "") and err.count("\n") <= 2
    assert error in err.splitlines()[-1]


@pytest.mark.parametrize("words", [(), ("--rgb",)])
def test_the_order_of_stored_pixels_is_not_changed(folder, infer, words):
    pixels = np.random.default_rng(3).integers(0, 256, (3, 3, 6, 5), np.uint8)
    for name, encoded in (("db", False), ("files", True)):
        with open_db(name, "lmdb", "w") as database:
            for i, image in enumerate(pixels):
                datum = array_to_datum(image, i)
                if encoded:
                    datum.data, datum.encoded = encode_image(image, "png"), True
                database.put(f"{i}", datum.SerializeToString())
    np.save("rows.npy", pixels)
    for name in ("db", "rows.npy"):
        status, _, err = infer(name, *words)
        assert status == 0 and "; channels in the order in which they are stored\n" in err and "--rgb" not in err
    for name in ("files", "pictures"):
        status, _, err = infer(name, "db", *words)
        assert status == 0 and f"; channels {'RGB' if words else 'BGR'}" in err


@pytest.mark.parametrize("action", ["infer", "classify"])
def test_an_engine_that_computes_for_another_is_reported_once(folder, action):
    words = ["deploy.prototxt", "w.caffemodel", NAMES[0]]
    if action == "classify":
        words = [NAMES[0], "o.npy", "--model_def", words[0], "--pretrained_model", words[1]]
    words = [sys.executable, "-m", "minicaffe", action, *words, "--engine", "CUDNN"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(minicaffe.__path__[0])])}
    err = subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stderr
    assert re.findall("^Engine (.*) computes in place of CUDNN: it is for GPU mode$", err, re.M) and "INFO" not in err
    assert err.count("in place of") == 1
