"""`minicaffe show --samples`: the pictures that a net reads."""

import numpy as np
import pytest
from PIL import Image

from helpers.annotated import TRAINING, random_records, write_records
from helpers.readers import write_images
from minicaffe.cli import samples
from minicaffe.data.annotations.records import boxes_of
from minicaffe.data.datasets import shapes
from minicaffe.data.datasets.scenes import CLASSES
from minicaffe.data.db import open_db
from minicaffe.data.mean import write_mean
from minicaffe.pictures.sheet import group_color
from minicaffe.proto import caffe_pb2
from minicaffe.solvers import get_solver

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "db" backend: LMDB batch_size: 4 }
  transform_param { crop_size: 6 mirror: true scale: 0.5 mean_file: "mean.binaryproto" } }
layer { name: "held" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { source: "db" backend: LMDB batch_size: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 6
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 9 snapshot_prefix: "s" random_seed: 4
    test_iter: 1 test_interval: 1 test_initialization: false"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working folder with a solver, its net, and a database of 10 pictures (3, 8, 8) with labels 0 to 5."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (10, 3, 8, 8), np.uint8)
    write_images("db", images, labels=6)
    write_mean("mean.binaryproto", images.mean(0).astype(np.float32))
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    (tmp_path / "alone.prototxt").write_text(SOLVER.replace("test_iter: 1 test_interval: 1", ""))
    (tmp_path / "names.txt").write_text("cat\ndog\ncow\x1b[31m\nfox\n$x$\nelk\n")
    return tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """The arguments with which sheets were drawn: lists of tiles, titles, notes."""
    calls = []
    draw = samples.draw_sheet
    monkeypatch.setattr(samples, "draw_sheet", lambda *args: calls.append(args) or draw(*args))
    return calls


def test_they_are_the_pictures_that_training_reads(folder, run, drawn):
    status, out, err = run("show", "--samples", "alone.prototxt", "s.png", "--count", "10", "--labels", "names.txt")
    assert status == 0, err
    assert (folder / "s.png").read_bytes().startswith(b"\x89PNG")
    solver = get_solver("alone.prototxt")
    read, labels = [], []
    for _ in range(3):
        solver.step(1)
        read += list(solver.net.blobs["data"].data.copy())
        labels += solver.net.blobs["label"].data.astype(int).tolist()
    ((tiles, title, notes, shown, bgr),) = drawn
    np.testing.assert_array_equal([tile.picture for tile in tiles], read[:10])
    assert [tile.caption[0].split()[0] for tile in tiles] == [str(label) for label in labels[:10]]
    assert tiles[0].caption == ["0 cat"] and bgr and title == "alone.prototxt, TRAIN: 10 pictures 3×6×6"
    assert "channels BGR, as of an image database; --rgb for a net of RGB records" in out
    assert "crop 6×6, mirror, minus the mean mean.binaryproto, times 0.5" in out
    values = np.array(read[:10])
    assert (shown.low, shown.high) == (values.min(), values.max())
    row = next(line for line in out.splitlines() if line.startswith("green")).split()
    stated = [values[:, 1].min(), values[:, 1].max(), values[:, 1].mean()]
    assert [float(cell) for cell in row[1:4]] == pytest.approx(stated, rel=1e-3, abs=1e-3)
    assert any(note.startswith("green: ") for note in notes) and "\x1b" not in out


def test_in_test_and_of_a_net(folder, run, drawn):
    status, out, _ = run("show", "--samples", "solver.prototxt", "--phase", "TEST", "--count", "4", "--rgb")
    assert status == 0 and "channels RGB\n" in out
    assert (folder / "solver_samples.png").exists()
    status, out, _ = run("show", "--samples", "net.prototxt", "n.svg", "--phase", "TEST", "--count", "4")
    assert status == 0 and "layer 'held', as the net gets it: its values as they are stored" in out
    for tiles, _, _, _, _ in drawn:
        assert tiles[0].picture.shape == (3, 8, 8)
    assert [bgr for *_, bgr in drawn] == [False, True]


def test_stages_and_a_net_with_several_channels(folder, run, drawn):
    layer = """layer { name: "pair" type: "DummyData" top: "pair" include { stage: "pairs" }
      dummy_data_param { shape { dim: 2 dim: 2 dim: 5 dim: 4 } data_filler { type: "gaussian" } } }"""
    (folder / "net.prototxt").write_text(layer)
    assert "no data layer of the net gives pictures" in run("show", "--samples", "net.prototxt", "o.png")[2]
    status, out, _ = run("show", "--samples", "net.prototxt", "o.png", "--count", "3", "--stage", "pairs")
    assert status == 0 and "channel 1" in out and "channels" not in out and "the layer has no transform_param" in out
    assert [tile.caption for tile in drawn[0][0]] == [[""]] * 3


@pytest.mark.parametrize(
    "words, expected",
    [
        (("--samples", "nosuch.prototxt"), "there is no file 'nosuch.prototxt'"),
        (("--samples", "solver.prototxt", "nosuch/o.png"), "cannot write 'nosuch/o.png'"),
        (("--samples", "solver.prototxt", "o.xyz"), "must end in a format"),
        (("--samples", "solver.prototxt", "--count", "0"), "--count: expected a number above 0"),
        (("--samples", "solver.prototxt", "w.caffemodel", "o.png"), "give OUT, but no WEIGHTS"),
        (("--samples", "solver.prototxt", "o.png", "--labels", "nosuch.txt"), "cannot read labels file nosuch.txt"),
        (("--samples", "deploy.prototxt", "o.png"), "in TRAIN no data layer of the net gives pictures (N, C, H, W)"),
        (("--samples", "alone.prototxt", "o.png", "--phase", "TEST"), "the solver alone.prototxt has no test net"),
        ((), "expected WEIGHTS, or --samples PROTOTXT"),
    ],
)
def test_refused(folder, run, words, expected):
    shape = "shape { dim: 1 dim: 3 dim: 8 dim: 8 }"
    (folder / "deploy.prototxt").write_text(f'layer {{ name: "in" type: "Input" top: "x" input_param {{ {shape} }} }}')
    status, out, err = run("show", *words)
    assert (status, out) == (1, "") and expected in err and "Traceback" not in err


def test_pictures_of_different_shapes(folder, run):
    write_images("sizes", [np.zeros((3, size, 8), np.uint8) for size in (8, 8, 9)])
    text = NET.replace("batch_size: 4", "batch_size: 1").replace('"db"', '"sizes"')
    (folder / "one.prototxt").write_text(text.replace("crop_size: 6", "").replace('mean_file: "mean.binaryproto"', ""))
    status, _, err = run("show", "--samples", "one.prototxt", "o.png")
    assert status == 1 and "picture 2 has another shape" in err and "--count 2 shows those before" in err
    assert run("show", "--samples", "one.prototxt", "o.png", "--count", "2")[0] == 0


def test_a_python_layer_as_the_source_can_be_refused(folder, run, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    (folder / "sampled_layers.py").write_text(
        "import minicaffe\n\nclass Ones(minicaffe.Layer):\n"
        "    def setup(self, bottom, top):\n        top[0].reshape(2, 1, 3, 3)\n"
        "    def reshape(self, bottom, top):\n        pass\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = 1\n"
    )
    (folder / "python.prototxt").write_text(
        'layer { name: "ones" type: "Python" top: "x" python_param { module: "sampled_layers" layer: "Ones" } }'
    )
    status, _, err = run("show", "--samples", "python.prototxt", "o.png", "--count", "3", "--no-python-layers")
    assert status == 1 and "Python layer 'ones'" in err and not (folder / "o.png").exists()
    status, out, err = run("show", "--samples", "python.prototxt", "o.png", "--count", "3")
    assert status == 0 and "3 pictures 1×3×3" in out, err


def test_images_with_boxes(tmp_path, monkeypatch, run, drawn):
    monkeypatch.chdir(tmp_path)
    write_records("annotated", random_records(6))
    (tmp_path / "net.prototxt").write_text(f'layer {{ name: "d" {TRAINING} top: "data" top: "label" }}')
    status, out, err = run("show", "--samples", "net.prototxt", "s.png", "--count", "7")
    assert status == 0, err
    assert "distort, expand, sample a part, resize 12×14, mirror, minus the mean 104, 117, 123" in out
    ((tiles, *_),) = drawn
    assert [tile.picture.shape for tile in tiles] == [(3, 12, 14)] * 7


MAPS = """
layer { name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param { source: "maps.txt" batch_size: 2 is_color: %s } }
"""


@pytest.mark.parametrize(("color", "channels"), [("true", 3), ("false", 1)])
def test_label_maps_are_beside_their_pictures(folder, run, drawn, color, channels):
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3)).save("a.png")
    Image.fromarray(np.array([[0, 0, 2, 2], [0, 0, 255, 2]], np.uint8)).save("m.png")
    (folder / "maps.txt").write_text("a.png m.png\n")
    (folder / "maps.prototxt").write_text(MAPS % color)
    status, _, err = run("show", "--samples", "maps.prototxt", "o.png", "--count", "3", "--labels", "names.txt")
    assert status == 0, err
    ((tiles, *_),) = drawn
    assert [tile.caption for tile in tiles] == [["cow\\x1b[31m, 255"]] * 3
    picture, beside = np.split(tiles[0].picture, 2, axis=2)
    low, high = picture.min(), picture.max()
    assert picture.shape == beside.shape == (channels, 2, 4) and np.all(beside[:, :, :2] == low)
    expected = np.array(group_color(2))[::-1] if channels == 3 else [0.69]
    assert np.allclose(beside[:, 0, 2], low + (high - low) * np.array(expected))
    assert np.any(beside[:, 1, 2] != beside[:, 0, 2])


def test_clips_are_four_of_their_frames(folder, run, drawn):
    (folder / "clips.prototxt").write_text(
        'layer { name: "clips" type: "DummyData" top: "data" top: "label" dummy_data_param { '
        'shape { dim: 2 dim: 3 dim: 7 dim: 5 dim: 6 } shape { dim: 2 } data_filler { type: "gaussian" } '
        "data_filler { value: 1 } } }"
    )
    status, out, err = run("show", "--samples", "clips.prototxt", "o.png", "--count", "3", "--labels", "names.txt")
    assert status == 0 and "4 of 7 frames of each clip" in out, err
    ((tiles, *_),) = drawn
    assert [(tile.picture.shape, tile.caption) for tile in tiles] == [((3, 5, 24), ["1 dog"])] * 3
    clips = np.arange(7.0).reshape(1, 1, 7, 1, 1)
    assert samples._frames(clips).ravel().tolist() == [0, 2, 4, 6]
    assert samples._frames(clips[:, :, :2]).ravel().tolist() == [0, 1]


def test_maps_of_other_numbers_than_classes_are_not_drawn():
    values = np.full((2, 1, 3, 3), 0.5)
    assert samples._labels(values, (2, 3, 3, 3)) == [None, None]
    assert samples._labels(values - 1.5, (2, 3, 3, 3)) == [None, None]
    assert [each.shape for each in samples._labels(values * 2, (2, 3, 3, 3))] == [(3, 3)] * 2


ANNOTATED = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  data_param { source: "drawn/train_lmdb" backend: LMDB batch_size: 3 }
  transform_param { mirror: true mean_value: 100 resize_param { height: 40 width: 40 } }
  annotated_data_param { anno_type: BBOX } }
"""


def test_boxes_of_annotated_data(folder, run, drawn):
    shapes.prepare("drawn", train=8, test=1, size=32)
    (folder / "boxes.prototxt").write_text(ANNOTATED)
    words = ["--count", "8", "--labels", "drawn/labelmap.prototxt", "--phase", "TEST"]
    status, out, err = run("show", "--samples", "boxes.prototxt", "o.png", *words)
    assert status == 0 and "as the net gets it: resize 40×40, mirror, minus the mean 100" in out, err
    ((tiles, _, _, _, _, width),) = drawn
    names = dict(enumerate(["background", *CLASSES]))
    with open_db("drawn/train_lmdb") as database:
        records = [caffe_pb2.AnnotatedDatum.FromString(bytes(value)) for _, value in database.items()]
    for tile, record in zip(tiles, records, strict=True):
        boxes = boxes_of(record)
        assert tile.picture.shape == (3, 40, 40) and width > 1.25
        assert tile.caption == [f"{len(boxes)} box{'es' if len(boxes) != 1 else ''}"]
        assert {(frame.group, frame.text, frame.line) for frame in tile.frames} == {
            (box.label, names[box.label], ":" if box.difficult else "-") for box in boxes}  # fmt: skip
        widths = sorted(frame.xmax - frame.xmin for frame in tile.frames)
        assert widths == pytest.approx(sorted(box.xmax - box.xmin for box in boxes), abs=1e-6)
