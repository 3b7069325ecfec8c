"""Lists and records that a data layer does not read as they are meant: the sentence says what to write instead."""

import h5py
import numpy as np
import pytest

from helpers.readers import data_layer
from minicaffe.data.db import open_db
from minicaffe.data.image import encode_image
from minicaffe.data.imageset import convert
from minicaffe.data.list_hints import of_line, of_missing
from minicaffe.data.mean import read_mean
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2

COLOUR = np.full((3, 6, 8), 10, np.uint8)
GRAY = np.full((1, 6, 8), 30, np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my pics").mkdir()
    for name, image in (("a.png", COLOUR), ("my pics/b c.png", COLOUR), ("g.png", GRAY)):
        (tmp_path / name).write_bytes(encode_image(image, "png"))
    return tmp_path


def images(content, more="", transform="", batch=1):
    with open("list.txt", "wb") as file:
        file.write(content)
    text = f'image_data_param {{ source: "list.txt" batch_size: {batch} {more} }}'
    layer, blobs = data_layer(f'name: "d" type: "ImageData" transform_param {{ {transform} }} {text}')
    return run(layer, blobs)


def records(source, transform="", batch=2, passes=1, more=""):
    text = f'data_param {{ source: "{source}" backend: LMDB batch_size: {batch} {more} }}'
    layer, blobs = data_layer(f'name: "d" type: "Data" transform_param {{ {transform} }} {text}')
    return run(layer, blobs, passes)


def run(layer, blobs, passes=1):
    """Run a layer and end its threads, also when it raises an error."""
    try:
        for _ in range(passes):
            layer.forward([], blobs)
    finally:
        layer.close()
    return blobs


def encoded(name, *pictures):
    with open_db(name, "lmdb", "w") as database:
        for i, image in enumerate(pictures):
            datum = caffe_pb2.Datum(data=encode_image(image, "png"), encoded=True, label=i)
            database.put(f"{i:03d}_picture", datum.SerializeToString())
    return name


@pytest.mark.parametrize(
    "line, hint",
    [
        (b"a.png\t3", "path and label are separated by a tab, write a space"),
        (b"my pics/b c.png\t3", "path and label are separated by a tab, write a space"),
        (b"a.png,3", "path and label are separated by a comma, write a space"),
        (b"a.png;3", "path and label are separated by a semicolon, write a space"),
        (b"a.png", "there is no label behind the path"),
        (b"a.png 0.5", "labels of image lists are classes; for other values use HDF5Data"),
        (b"a.png 1e-3", "labels of image lists are classes; for other values use HDF5Data"),
    ],
)
def test_lines_that_do_not_end_in_a_label(folder, line, hint):
    with pytest.raises(DataError, match=r'list.txt, line 2: expected "path label" .*: ' + hint):
        images(b"a.png 1\n" + line + b"\n")


@pytest.mark.parametrize(
    "line, hint",
    [
        (b'"my pics/b c.png" 1', "the list has quotes around the path: write my pics/b c.png"),
        (b"my\\ pics/b\\ c.png 1", "the list has backslashes in the path: write my pics/b c.png"),
        (b"my pics\\b c.png 1", "the list has backslashes in the path: write my pics/b c.png"),
        (b"a.png, 1", "only a space separates path and label: write a.png and the label"),
        (
            b"a.png 1 0 2",
            "the line has several labels, and only the last is read as one: for several labels use HD",
        ),
        (b"a.png 0.5 2", "the line has several labels"),
    ],
)
def test_paths_of_files_that_do_not_exist(folder, line, hint):
    with pytest.raises(DataError, match="No such file or directory: " + hint):
        images(line + b"\n")


def test_a_missing_file_without_an_idea(folder):
    with pytest.raises(DataError, match="cannot read image nope.png: No such file or directory$"):
        images(b"nope.png 1\n")


def test_a_file_with_such_a_name_is_read(folder):
    for name in ('"q".png', "a.png 1 0", "b\\c.png", "d.png,"):
        (folder / name).write_bytes(encode_image(COLOUR, "png"))
        assert images(name.encode() + b" 5\n")[1].data.tolist() == [5]


def test_a_root_folder_without_a_slash(folder, caplog):
    with pytest.raises(DataError, match="as it is: write 'my pics/', with a slash"):
        images(b"b c.png 1\n", 'root_folder: "my pics"')
    with pytest.raises(DataError, match="none of the 1 images"):
        convert("my pics", "list.txt", "out", "lmdb")
    assert "my picsb c.png: No such file or directory: the root folder is put before each path" in caplog.text
    assert images(b"b c.png 1\n", 'root_folder: "my pics/"')[1].data.tolist() == [1]


def test_a_utf8_mark_is_skipped_and_utf16_refused(folder):
    assert images(b"\xef\xbb\xbfa.png 3\n")[1].data.tolist() == [3]
    with pytest.raises(DataError, match="image list list.txt is UTF-16: save it as UTF-8"):
        images("a.png 3\n".encode("utf-16"))


def test_an_image_or_an_hdf5_file_as_the_list(folder):
    with pytest.raises(DataError, match='list.txt must be text, but it is a PNG image; a list has lines "path label"'):
        images((folder / "a.png").read_bytes())
    with h5py.File("x.h5", "w") as file:
        file["data"] = np.zeros((4, 3))
    with pytest.raises(
        DataError, match="x.h5 must be text, but it is an HDF5 file; a list has the path of an HDF5 file in each"
    ):
        data_layer('name: "h" type: "HDF5Data" top: "data" hdf5_data_param { source: "x.h5" batch_size: 2 }')
    with pytest.raises(DataError, match="x.h5 must be a folder, but it is a file .ImageData reads lists, HDF5Data HD"):
        records("x.h5")


# -- records -----------------------------------------------------------------------------------------------------------


def test_gray_and_colour_in_one_batch_name_the_records(folder):
    source = encoded("db", COLOUR, GRAY)
    with pytest.raises(DataError) as caught:
        records(source)
    assert str(caught.value) == (
        "Data layer 'd': image 1 of the batch (record '001_picture' of db) has shape (1, 6, 8), which gives (1, 6, 8), "
        "but image 0 of the batch (record '000_picture' of db) gave (3, 6, 8): images of different channels need "
        "force_color: true or force_gray: true in transform_param, which decode encoded records"
    )
    assert records(source, "force_color: true")[0].shape == (2, 3, 6, 8)
    with pytest.raises(DataError, match=r"image 1 of the batch \(record '00[01]_picture' of db\) has shape"):
        records(source, more="shuffle: true")


def test_images_of_different_sizes_name_the_record(folder):
    (folder / "big.png").write_bytes(encode_image(np.zeros((3, 9, 9), np.uint8), "png"))
    with pytest.raises(DataError, match=r"image 1 of the batch \(my pics/../big.png\) has shape \(3, 9, 9\)"):
        images(b"../a.png 1\n../big.png 2\n", 'root_folder: "my pics/"', batch=2)


def test_three_means_and_a_gray_image_name_it(folder):
    means = "mean_value: 1 mean_value: 2 mean_value: 3"
    said = "got 3 for 1 channels: {} is gray, and there are 3 channels with force_color: true"
    with pytest.raises(DataError, match=said.format("record '000_picture' of first")):
        records(encoded("first", GRAY, COLOUR), means)
    with pytest.raises(DataError, match=said.format(r"image 0 of the batch \(record '001_picture' of second\)")):
        records(encoded("second", COLOUR, GRAY), means, batch=1, passes=2)
    with pytest.raises(DataError, match=said.format("g.png") + ".* with is_color: true in ImageData"):
        images(b"g.png 1\n", "is_color: false", means)


def test_a_numpy_file_as_the_mean(folder):
    np.save("mean.npy", np.zeros((3, 6, 8)))
    with pytest.raises(DataError, match="is a NumPy file, expected a BlobProto: write it as .*array_to_blobproto"):
        read_mean("mean.npy")


@pytest.mark.parametrize(
    "name",
    [
        "img.jpg " + "1" * 60 + " (8 times) cat",
        "img.jpg " + "1" * 20_000 + " x",
        "a" + "\t" * 20_000 + "b",
        "a" + " ,;\t" * 20_000 + "b",
        "a" + " 1" * 20_000 + " b",
        "a" + " 1.5e" * 20_000,
    ],
)
def test_hints_of_long_lines_take_linear_time(name):
    """Each of these took longer than a test may take: up to exponential time."""
    of_line(name)
    assert of_missing("", name) == ""


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("a.png\t\t3", "separated by a tab"),
        ("a.png, -3", "separated by a comma"),
        ("a b.png ; +3", "separated by a semicolon"),
        ("a.png 1.", "labels of image lists are classes"),
        ("a.png -.5e-3", "labels of image lists are classes"),
        ("a.png e3", ""),
        ("a.png . ", ""),
        ("a.png", "there is no label behind the path"),
        ("12", "there is no label behind the path"),
    ],
)
def test_hints_of_lines(line, hint):
    assert hint in of_line(line) and bool(hint) == bool(of_line(line))


def test_several_labels_behind_a_path(folder):
    for name in ("my pics/b c.png 1", "my pics/b c.png,1.5;2", "my pics/b c.png\t-1 .5 2e3"):
        assert "several labels" in of_missing("", name)
