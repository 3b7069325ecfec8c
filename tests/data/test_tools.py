"""The data commands: flags in the original's spelling, files written, log lines, errors."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.annotated import record, write_records
from helpers.readers import write_images
from minicaffe.data.datum import array_to_datum, datum_to_array
from minicaffe.data.db import open_db
from minicaffe.data.mean import read_mean
from minicaffe.proto import caffe_pb2

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PIXELS = np.random.default_rng(9).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)


@pytest.fixture
def run(run):
    """Run a command line; returns (exit status, all that it wrote)."""

    def call(*words):
        status, out, err = run(*words)
        return status, out + err

    return call


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    for index, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png {index + 5}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


def records_of(path, backend="lmdb"):
    with open_db(path, backend) as database:
        return {key.decode(): caffe_pb2.Datum.FromString(bytes(value)) for key, value in database.items()}


# -- convert_imageset --------------------------------------------------------------------------------------------------


def test_convert_imageset(folder, run):
    status, text = run("convert_imageset", f"{folder}/", "list.txt", "db")
    assert status == 0 and "A total of 4 images." in text and "Processed 4 files." in text
    records = records_of("db")
    assert list(records) == [f"{i:08d}_{i}.png" for i in range(4)]
    for datum, pixels, label in zip(records.values(), PIXELS, range(5, 9), strict=True):
        assert np.array_equal(datum_to_array(datum), pixels[:, :, ::-1].transpose(2, 0, 1)) and datum.label == label


@pytest.mark.parametrize(
    "flags, shape",
    [
        (["-gray"], (1, 6, 8)),
        (["--resize_width=4", "--resize_height", "3"], (3, 3, 4)),
        (["-backend=leveldb", "--gray=true"], (1, 6, 8)),
    ],
)
def test_convert_imageset_flags(folder, run, flags, shape):
    assert run("convert_imageset", *flags, f"{folder}/", "list.txt", "db")[0] == 0
    backend = "leveldb" if "-backend=leveldb" in flags else "lmdb"
    assert {datum_to_array(datum).shape for datum in records_of("db", backend).values()} == {shape}


def test_convert_imageset_encoded(folder, run):
    run("convert_imageset", "-encoded", f"{folder}/", "list.txt", "as_it_is")
    run("convert_imageset", "-encode_type=jpg", f"{folder}/", "list.txt", "as_jpg")
    for index, datum in enumerate(records_of("as_it_is").values()):
        assert datum.encoded and datum.data == (folder / f"{index}.png").read_bytes()
    for datum in records_of("as_jpg").values():
        assert datum.data[:2] == b"\xff\xd8" and datum_to_array(datum).shape == (3, 6, 8)


@pytest.mark.parametrize(
    "flags", [[], ["-gray"], ["-encoded"], ["-encoded", "-gray"], ["-encode_type=png"], ["-encode_type=pgm", "-gray"]]
)
def test_pictures_of_16_bits(folder, run, flags):
    deep = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    (folder / "list.txt").write_text("deep.png 1\n")
    assert run("convert_imageset", *flags, f"{folder}/", "list.txt", "db")[0] == 0
    (datum,) = records_of("db").values()
    if flags == ["-encoded"]:
        assert datum.data == (folder / "deep.png").read_bytes()
    for color in (True, False, None) if datum.encoded else (None,):
        assert all(np.array_equal(plane, deep >> 8) for plane in datum_to_array(datum, color))
    assert run("compute_image_mean", "db", "mean.binaryproto")[0] == 0
    assert all(np.array_equal(plane, deep >> 8) for plane in read_mean("mean.binaryproto"))
    assert run("resize_and_crop_images", "--input", "names.txt", "--output_folder", "out")[0] == 1
    (folder / "names.txt").write_bytes(b"\xef\xbb\xbfdeep.png\r\n")
    flags = ["--input", "names.txt", "--output_folder", "out", "--output_side_length", "2"]
    assert "Wrote 1 of 1 images" in run("resize_and_crop_images", *flags)[1]
    with Image.open("out/deep.png") as small:
        assert small.mode == "RGB" and small.size == (2, 2) and np.asarray(small).min() < 10


@pytest.mark.parametrize("flags", [[], ["-encoded"], ["-encoded", "-gray"]])
def test_a_gray_picture_among_encoded_ones_of_colour_is_warned_of(folder, run, flags):
    Image.fromarray(PIXELS[2, :, :, 0]).save(folder / "2.png")
    status, text = run("convert_imageset", *flags, f"{folder}/", "list.txt", "db")
    mixed = flags == ["-encoded"]
    assert status == 0
    assert ("the database has 1 image(s) of 1 channel(s), 3 image(s) of 3 channel(s), but" in text) == mixed
    status, text = run("compute_image_mean", "db", "mean.binaryproto")
    error = (
        "record '00000002_2.png' of db has shape (1, 6, 8), but the records before it (3, 6, 8): a mean needs images "
        "of one size and one number of channels: make the database with `convert_imageset` without --encoded, or with "
        "--gray"
    )
    assert status == mixed and (error in text) == mixed


def test_a_mean_of_two_sizes_names_the_flags_that_resize(folder, run):
    Image.fromarray(PIXELS[2, :5]).save(folder / "2.png")
    assert run("convert_imageset", f"{folder}/", "list.txt", "db")[0] == 0
    status, text = run("compute_image_mean", "db", "mean.binaryproto")
    assert status == 1 and text.strip().endswith("`convert_imageset --resize_width=W --resize_height=H`")


@pytest.mark.parametrize("flags", [[], ["-encoded"], ["-gray"]])
def test_pictures_of_32_bits_are_left_out(folder, run, flags):
    Image.fromarray(np.ones((2, 3), np.float32)).save(folder / "float.tif")
    Image.fromarray(np.full((2, 3), 70000, np.int32)).save(folder / "int.tif")
    (folder / "list.txt").write_text("float.tif 0\nint.tif 1\n0.png 2\n")
    status, text = run("convert_imageset", *flags, f"{folder}/", "list.txt", "db")
    assert status == 0 and [datum.label for datum in records_of("db").values()] == [2]
    assert "float.tif: its pixels are 32-bit floats" in text and "int.tif: its pixels are 32-bit integers" in text
    lines = run("resize_and_crop_images", "--input", "list.txt", "--output_folder", "out")[1]
    assert "left out 'float.tif 0': cannot read image float.tif 0: No such file" in lines


@pytest.mark.parametrize("backend, length", [("lmdb", 511), ("leveldb", 568)])
def test_paths_longer_than_a_key(folder, run, backend, length):
    parent = Path("é" * 110, *["d" * 110] * 3)
    parent.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(PIXELS[0]).save(parent / name)
    (folder / "list.txt").write_text(f"{parent}/a.png 1\n{parent}/b.png 2\n0.png 3\n")
    status, text = run("convert_imageset", "-backend", backend, "", "list.txt", "db")
    assert status == 0 and ("2 keys were cut to the 511 bytes that lmdb allows" in text) == (backend == "lmdb")
    with open_db("db", backend) as database:
        keys = [key for key, _ in database.items()]
    whole = [f"{i:08d}_{parent}/{name}.png".encode() for i, name in enumerate("ab")]
    assert keys == [key[:length] for key in whole] + [b"00000002_0.png"] and len(keys[0]) == length


def test_convert_imageset_shuffles_and_keeps_labels(folder, run):
    assert run("convert_imageset", "-shuffle", f"{folder}/", "list.txt", "db")[0] == 0
    records = records_of("db")
    assert {key.split("_")[1]: datum.label for key, datum in records.items()} == {f"{i}.png": i + 5 for i in range(4)}


def test_convert_imageset_skips_what_it_cannot_read(folder, run):
    (folder / "1.png").write_text("no picture")
    (folder / "2.png").unlink()
    status, text = run("convert_imageset", f"{folder}/", "list.txt", "db")
    assert status == 0 and len(records_of("db")) == 2
    assert "cannot decode" in text and "2.png: No such file" in text


@pytest.mark.parametrize("change, flags, sentence", [
    ("", ["-resize_width=4"], "resize_width and resize_height must be given together, got 4 and 0"),
    ("size", ["-check_size"], "image .*1.png has shape (3, 5, 8), but the first one (3, 6, 8)"),
    ("label", [], 'list.txt, line 1: expected "path label" with a whole number as label, got \'0.png cat\''),
    ("empty", [], "image list list.txt is empty"),
    ("large", [], "list.txt, line 2: label 4000000000 is beyond 32 bits"),
    ("utf16", [], "image list list.txt is UTF-16: save it as UTF-8"),
    ("none", [], "none of the 4 images in list.txt could be read"),
    ("exists", [], "db exists already: remove it first, or choose another name"),
])  # fmt: skip
def test_convert_imageset_errors(folder, run, change, flags, sentence):
    if change == "size":
        Image.fromarray(PIXELS[1, :5]).save(folder / "1.png")
    elif change == "label":
        (folder / "list.txt").write_text("0.png cat\n")
    elif change == "large":
        (folder / "list.txt").write_text("0.png 1\n1.png 4000000000\n")
    elif change == "utf16":
        (folder / "list.txt").write_text("0.png 1\n", encoding="utf-16")
    elif change == "empty":
        (folder / "list.txt").write_text("")
    elif change == "exists":
        (folder / "db").mkdir()
    root = folder / "nowhere" if change == "none" else folder
    status, text = run("convert_imageset", *flags, f"{root}/", "list.txt", "db")
    last = text.strip().splitlines()[-1]
    assert status == 1 and all(part in last for part in sentence.split(".*"))
    assert change == "exists" or not (folder / "db").exists()


# -- compute_image_mean ------------------------------------------------------------------------------------------------


@pytest.fixture
def database(folder):
    images = PIXELS.transpose(0, 3, 1, 2)
    write_images("images_lmdb", images)
    return images


def test_compute_image_mean(database, run):
    status, text = run("compute_image_mean", "-backend=lmdb", "images_lmdb", "mean.binaryproto")
    assert status == 0
    assert np.allclose(read_mean("mean.binaryproto"), database.mean(0), atol=1e-4)
    blob = caffe_pb2.BlobProto.FromString(Path("mean.binaryproto").read_bytes())
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 3, 6, 8) and not blob.HasField("shape")
    assert "Processed 4 files." in text and "Number of channels: 3" in text
    for channel in range(3):
        logged = text.split(f"mean_value channel [{channel}]: ")[1].split()[0]
        assert float(logged) == pytest.approx(database[:, channel].mean(), rel=1e-5)


def test_compute_image_mean_of_images_with_boxes(database, run):
    write_records(
        "annotated", [record(image, [(1, 0, 0, 0, 1, 1, 0)], kind) for image, kind in zip(database, ("", "png") * 9)]
    )
    assert run("compute_image_mean", "-backend=lmdb", "annotated", "mean.binaryproto")[0] == 0
    assert np.allclose(read_mean("mean.binaryproto"), database.mean(0), atol=1e-4)


def test_compute_image_mean_errors(database, run):
    assert "LMDB none does not exist" in run("compute_image_mean", "none", "mean.binaryproto")[1]
    with open_db("mixed", "lmdb", "w") as mixed:
        mixed.put("0", array_to_datum(database[0]).SerializeToString())
        mixed.put("1", array_to_datum(database[0, :1]).SerializeToString())
    status, text = run("compute_image_mean", "mixed", "mean.binaryproto")
    assert status == 1 and "record '1' of mixed has shape (1, 6, 8), but the records before it (3, 6, 8)" in text
    assert not Path("mean.binaryproto").exists()
    assert "cannot write 'none/mean': No such file" in run("compute_image_mean", "images_lmdb", "none/mean")[1]


# -- extract_features --------------------------------------------------------------------------------------------------

NET = """
layer { name: "data" type: "Data" top: "data" top: "label"
        data_param { source: "images_lmdb" backend: LMDB batch_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""


def test_extract_features(database, run):
    from minicaffe.core.net import Net

    Path("net.prototxt").write_text(NET)
    net = Net("net.prototxt", phase=1)
    net.save("net.caffemodel")
    status, text = run(
        "extract_features", "net.caffemodel", "net.prototxt", "ip,data", "ip_db,data_db", 2, "lmdb", "CPU"
    )
    assert status == 0 and "Extracted features of 6 query images for feature blob ip" in text
    features, images = records_of("ip_db"), records_of("data_db")
    assert list(features) == list(images) == [f"{i:010d}" for i in range(6)]
    net.forward()
    assert np.array_equal(datum_to_array(features["0000000001"]).ravel(), net.blobs["ip"].data[1])
    assert np.array_equal(datum_to_array(images["0000000005"]), database[1].astype(np.float32))


def test_extract_features_errors(database, run):
    from minicaffe.core.net import Net

    Path("net.prototxt").write_text(NET)
    Net("net.prototxt", phase=1).save("net.caffemodel")
    common = ("extract_features", "net.caffemodel", "net.prototxt")
    assert "the net has no blob 'ipp' (did you mean \"ip\"?)" in run(*common, "ipp", "a", 1, "lmdb")[1]
    assert "one database for each blob, got 2 blob(s) and 1" in run(*common, "ip,data", "a", 1, "lmdb")[1]
    assert 'unknown database backend "lmbd"' in run(*common, "ip", "a", 1, "lmbd")[1]
    assert "expected CPU or GPU, got 'TPU'" in run(*common, "ip", "a", 1, "lmdb", "TPU")[1]
    assert "expected at least one batch, got 0" in run(*common, "ip", "a", 0, "lmdb")[1]
    assert not Path("a").exists()


# -- data sets ---------------------------------------------------------------------------------------------------------


def test_data_names_what_is_missing(folder, run):
    status, text = run("data", "cifar10", "--from", "nowhere.tar.gz", "--dest", "out")
    assert status == 1 and "CIFAR-10 source nowhere.tar.gz does not exist" in text
    status, text = run("data", "synthetic", "--from", "x")
    assert status == 1 and "data synthetic takes no --from" in text
    for name, flag, takers in (
        ("mnist", "train=5", "shapes, words and faces do"),
        ("synthetic", "seed=0", "shapes, words and faces do"),
        ("cifar10", "voc", "shapes does"),
        ("words", "size=64", "shapes does"),
    ):
        status, text = run("data", name, f"--{flag}")
        assert status == 1 and f"data {name} takes no --{flag.split('=')[0]}: only {takers}" in text
    status, text = run("data", "shapes", "--pad", "4")
    assert status == 1 and "data shapes takes no --pad" in text


def test_data_draws_faces(folder, run):
    status, text = run("data", "faces", "--train=30", "--test=5", "--seed=5", "--dest=drawn")
    assert status == 0 and "Wrote faces to drawn" in text
    assert {"train_lmdb", "pairs_lmdb", "classes.txt"} <= {path.name for path in Path("drawn").iterdir()}


def test_data_draws_words(folder, run):
    status, text = run("data", "words", "--train=3", "--test=2", "--seed=5", "--dest=drawn")
    assert status == 0 and "Wrote words to drawn" in text
    assert Path("drawn/test.txt").read_text() == "drawn/test.h5\n" and Path("drawn/train.h5").exists()


def test_data_draws_shapes(folder, run):
    status, text = run("data", "shapes", "--train=3", "--test=2", "--size=32", "--seed=5", "--voc", "--dest=drawn")
    assert status == 0 and "Wrote shapes to drawn" in text
    assert len(list(Path("drawn/VOC/JPEGImages").iterdir())) == 5
    with open_db("drawn/train_lmdb") as database:
        assert len(database) == 3


@pytest.mark.parametrize(
    "name",
    [
        "convert_cifar_data",
        "convert_mnist_data",
        "convert_mnist_siamese_data",
        "convert_imageset",
        "compute_image_mean",
        "extract_features",
    ],
)
def test_the_scripts_are_the_commands(name, tmp_path):
    result = subprocess.run(
        [sys.executable, TOOLS / f"{name}.py", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0 and f"usage: minicaffe {name}" in result.stdout


def test_the_converters_of_the_examples(folder, run):
    records = np.zeros((3, 3073), np.uint8)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    assert run("convert_cifar_data", ".", "cifar", "leveldb")[0] == 0
    assert len(records_of("cifar/cifar10_train_leveldb", "leveldb")) == 15
    (folder / "images").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(8)))
    (folder / "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    assert run("convert_mnist_data", "images", "labels", "mnist_lmdb", "-backend=lmdb")[0] == 0
    assert [datum.label for datum in records_of("mnist_lmdb").values()] == [7, 9]


def test_pairs_of_the_siamese_example(folder, run):
    """Each record is a pair of images, one a channel; its label is whether their classes are equal."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 3, 2), np.uint8), rng.integers(0, 3, 40, np.uint8)
    (folder / "images").write_bytes(struct.pack(">4I", 0x803, 40, 3, 2) + images.tobytes())
    (folder / "labels").write_bytes(struct.pack(">2I", 0x801, 40) + labels.tobytes())
    assert run("convert_mnist_siamese_data", "images", "labels", "pairs")[0] == 0
    assert run("convert_mnist_siamese_data", "images", "labels", "again", "--backend=lmdb")[0] == 0
    assert run("convert_mnist_siamese_data", "images", "labels", "other", "--seed", "2")[0] == 0
    pairs = records_of("pairs", "leveldb")
    assert list(pairs) == [f"{i:08d}" for i in range(40)]
    assert pairs == records_of("again") and pairs != records_of("other", "leveldb")
    place = {image.tobytes(): i for i, image in enumerate(images)}
    drawn = [(place[datum.data[:6]], place[datum.data[6:]], datum.label) for datum in pairs.values()]
    assert all(label == (labels[i] == labels[j]) for i, j, label in drawn) and {d[2] for d in drawn} == {0, 1}
    assert {(d.channels, d.height, d.width) for d in pairs.values()} == {(2, 3, 2)}
    assert len({i for i, _, _ in drawn}) > 20 and [d[0] for d in drawn] != [d[1] for d in drawn]
    assert "--seed: expected a number of at least 0" in run("convert_mnist_siamese_data", "a", "b", "c", "--seed=-1")[1]
    assert "exists already" in run("convert_mnist_siamese_data", "images", "labels", "pairs")[1]
