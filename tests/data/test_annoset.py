"""convert_annoset, create_annoset, get_image_size and create_label_map: images with boxes to databases."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.coco_folder import write_coco
from minicaffe.data.annotations.records import boxes_of
from minicaffe.data.datasets import shapes
from minicaffe.data.datasets.scenes import CLASSES
from minicaffe.data.db import open_db
from minicaffe.data.image import decode_image, read_image, resize
from minicaffe.data.label_map import read_label_map
from minicaffe.proto import caffe_pb2


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The drawn data set: databases, label map, and a VOC folder."""
    folder = tmp_path_factory.mktemp("drawn")
    shapes.prepare(str(folder), train=12, test=5, size=64, voc_folder=True)
    return folder


@pytest.fixture
def folder(drawn, tmp_path, monkeypatch):
    """The working folder: VOC, labelmap.prototxt, and the lists train.txt and test.txt as of create_list.sh."""
    shutil.copytree(drawn / "VOC", tmp_path / "VOC")
    shutil.copy(drawn / "labelmap.prototxt", tmp_path)
    for part in ("train", "test"):
        ids = (drawn / f"VOC/ImageSets/Main/{part}.txt").read_text().split()
        lines = [f"VOC/JPEGImages/{each}.jpg VOC/Annotations/{each}.xml\n" for each in ids]
        (tmp_path / f"{part}.txt").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def convert(run):
    """Run convert_annoset for detection; return what it wrote to the terminal."""

    def call(*words, status=0):
        got, out, err = run("convert_annoset", *words)
        assert got == status, out + err
        return out + err

    return call


DETECTION = ("--anno_type=detection", "--label_map_file=labelmap.prototxt")


def records(path, backend="lmdb"):
    with open_db(path, backend) as database:
        return {key.decode(): caffe_pb2.AnnotatedDatum.FromString(bytes(value)) for key, value in database.items()}


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_list_of_xml_files_gives_the_drawn_records(folder, convert, drawn):
    text = convert(*DETECTION, "--encoded", "--check_label=true", "--shuffle=false", "./", "train.txt", "db")
    assert records("db") == records(drawn / "train_lmdb") and list(records("db")) == list(records(drawn / "train_lmdb"))
    assert "A total of 12 images." in text and "Processed 12 files." in text and "Wrote db: 12 images, " in text


def test_pixels_resized_and_gray(folder, convert):
    convert(*DETECTION, "--resize_height=20", "--resize_width=30", "--gray", ".", "test.txt", "db", "--backend=leveldb")
    for key, record in records("db", "leveldb").items():
        image = read_image(key.partition("_")[2], color=False)
        assert (record.datum.channels, record.datum.height, record.datum.width) == (1, 20, 30)
        assert record.datum.data == resize(image, 20, 30).tobytes() and not record.datum.encoded


def test_boxes_do_not_depend_on_the_size_stored(folder, convert, drawn):
    convert(*DETECTION, "--resize_height=20", "--resize_width=30", "--encode_type=png", "./", "test.txt", "db")
    expected = [boxes_of(record) for record in records(drawn / "test_lmdb").values()]
    assert [boxes_of(record) for record in records("db").values()] == expected
    assert {decode_image(record.datum.data).shape for record in records("db").values()} == {(3, 20, 30)}


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (["--min_dim=60"], (60, 120)),
        (["--min_dim=30"], (40, 80)),
        (["--max_dim=50"], (25, 50)),
        (["--min_dim=60", "--max_dim=100"], (50, 100)),
        (["--min_dim=60", "--resize_width=5", "--resize_height=5"], (60, 120)),
    ],
)
def test_limits_of_the_sides(folder, convert, flags, size):
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save("wide.png")
    Path("one.txt").write_text("wide.png none.xml\n")
    convert(*DETECTION, *flags, "./", "one.txt", "db")
    datum = records("db")["00000000_wide.png"].datum
    assert (datum.height, datum.width) == size


def test_shuffled_by_seed(folder, convert):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        convert(*DETECTION, "--encoded", "--shuffle", f"--seed={seed}", "./", "train.txt", name)
    assert records("a") == records("b") != records("c")
    data = [sorted(record.datum.data for record in records(name).values()) for name in "ac"]
    assert data[0] == data[1]


def test_files_of_ilsvrc_are_kept_as_they_are(folder, convert, drawn):
    """Its images end in .JPEG, its annotations have the names of synsets."""
    for name in CLASSES:
        path = Path("labelmap.prototxt")
        path.write_text(path.read_text().replace(f'name: "{name}"', f'name: "n{name}"'))
    lines = []
    for i in range(5):
        Path(f"{i}.JPEG").write_bytes(Path(f"VOC/JPEGImages/test_{i:06d}.jpg").read_bytes())
        Path(f"{i}.xml").write_text(Path(f"VOC/Annotations/test_{i:06d}.xml").read_text().replace("<name>", "<name>n"))
        lines.append(f"{i}.JPEG {i}.xml\n")
    Path("val.txt").write_text("".join(lines))
    convert(*DETECTION, "--encoded", "--encode_type=jpg", "./", "val.txt", "db")
    assert list(records("db").values()) == list(records(drawn / "test_lmdb").values())


def test_names_that_are_not_utf8(folder, run, convert):
    """They are written as the bytes that they have in the list, and in the file system."""
    for path in ("JPEGImages/test_000000.jpg", "Annotations/test_000000.xml"):
        shutil.copy(f"VOC/{path}", os.fsencode(f"VOC/{path}").replace(b"test", b"\xe9"))
    Path("VOC/ImageSets/Main/odd.txt").write_bytes(b"\xe9_000000\r\n")
    convert("--voc=VOC", "--set=odd", "odd_lmdb")
    assert Path("odd_name_size.txt").read_bytes() == b"\xe9_000000 64 64\n"
    Path("odd.txt").write_bytes(b"JPEGImages/\xe9_000000.jpg 0\n")
    assert run("get_image_size", "VOC", "odd.txt", "sizes.txt")[0] == 0
    assert Path("sizes.txt").read_bytes() == b"\xe9_000000 64 64\n"


def test_classification(folder, convert):
    Path("list.txt").write_text("VOC/JPEGImages/test_000000.jpg 4\nVOC/JPEGImages/test_000001.jpg -2\n")
    convert("./", "list.txt", "db")
    found = records("db").values()
    assert [record.datum.label for record in found] == [4, -2]
    assert not any(record.HasField("type") or record.annotation_group for record in found)


def test_text_and_json_files(folder, convert):
    image = "VOC/JPEGImages/test_000000.jpg"
    Path("a.txt").write_text("3 16 8 32 64\n")
    Path("a.json").write_text('{"annotation": [{"category_id": "ring", "bbox": [16, 8, 16, 56]}]}')
    for kind, label in (("txt", 3), ("json", 5)):
        Path("list").write_text(f"{image} a.{kind}\n")
        text = convert(*DETECTION, f"--label_type={kind}", "./", "list", f"{kind}_db")
        assert ("states no size: that of the image, 64x64, is taken" in text) == (kind == "json")
        (record,) = records(f"{kind}_db").values()
        assert boxes_of(record) == [(label, 0.25, 0.125, 0.5, 1, False)]


def test_images_without_annotations_and_images_that_cannot_be_read(folder, convert):
    Path("list").write_text("VOC/JPEGImages/test_000000.jpg none\nnowhere.jpg none\nVOC/JPEGImages/test_000002.jpg 0\n")
    text = convert(*DETECTION, "--encoded", "./", "list", "db")
    assert list(records("db")) == [f"{i:08d}_VOC/JPEGImages/test_{i:06d}.jpg" for i in (0, 2)]
    assert "cannot read image ./nowhere.jpg" in text and "2 images have no annotation file, so no boxes" in text
    Path("list").write_text("nowhere.jpg none\n")
    assert "none of the 1 images could be read" in convert(*DETECTION, "./", "list", "other", status=1)
    assert not Path("other").exists()


def test_an_annotation_that_cannot_be_read_ends_the_conversion(folder, convert):
    path = folder / "VOC/Annotations/test_000003.xml"
    path.write_text(path.read_text().replace("xmin", "min"))
    text = convert(*DETECTION, "./", "test.txt", "db", status=1)
    assert "test_000003.xml: object 1: bndbox has no element xmin" in text and not Path("db").exists()
    path.write_text(path.read_text().replace("<min>", "<xmin>").replace("</min>", "</xmin>"))
    path.write_text(path.read_text().replace("<name>", "<name>big "))
    assert "has no class 'big " in convert(*DETECTION, "./", "test.txt", "db", status=1)


def test_check_size(folder, convert):
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save("VOC/JPEGImages/test_000003.jpg")
    text = convert(*DETECTION, "--check_size", "./", "test.txt", "db", status=1)
    assert "test_000003.jpg has shape (3, 40, 80), but the first one (3, 64, 64)" in text
    text = convert(*DETECTION, "--encoded", "./", "test.txt", "db")
    assert "is about an image of 64x64 pixels, but the image has 80x40" in text


# -- data sets in their own layout -------------------------------------------------------------------------------------


def test_a_voc_folder(folder, convert, drawn):
    Path("out").mkdir()
    text = convert("--voc", "VOC", "--set=train", "out/train_lmdb")
    assert "Wrote out/labelmap.prototxt: 5 classes" in text and "Wrote out/train_name_size.txt" in text
    assert list(read_label_map("out/labelmap.prototxt").names.values()) == ["none_of_the_above", *sorted(CLASSES)]
    convert("--voc=VOC/", "--set=test", "--label_map_file=labelmap.prototxt", "out/test_lmdb")
    assert records("out/test_lmdb") == records(drawn / "test_lmdb")
    assert Path("out/test_name_size.txt").read_text() == (drawn / "test_name_size.txt").read_text()


def test_several_voc_folders(folder, convert):
    shutil.copytree("VOC", "VOC2")
    convert("--voc", "VOC", "--voc", "VOC2", "--set=test", "db", "--name_size_file=sizes")
    assert [key[9:13] for key in records("db")] == ["VOC/"] * 5 + ["VOC2"] * 5
    assert len(Path("sizes").read_text().splitlines()) == 10


def test_classes_of_voc_are_its_twenty(folder, convert):
    for path in Path("VOC/Annotations").iterdir():
        text = path.read_text()
        for name in CLASSES:
            text = text.replace(f"<name>{name}<", "<name>dog<")
        path.write_text(text)
    convert("--voc", "VOC", "--set=test", "--label_map_file=new", "db")
    labels = read_label_map("new").labels
    assert len(labels) == 21 and labels["aeroplane"] == 1 and labels["dog"] == 12 and labels["tvmonitor"] == 20


def test_a_coco_folder(folder, convert, drawn):
    content = write_coco(folder / "coco", folder / "VOC", "test", CLASSES)
    convert("--coco", "coco", "--set", "test", "--label_map_file=map", "test_lmdb")
    labels = read_label_map("map")
    assert labels.names == {0: "none_of_the_above", 1: "3", 2: "6", 3: "9", 4: "12", 5: "15"}
    assert list(labels.display_names.values()) == ["background", *CLASSES]
    found, expected = records("test_lmdb"), records(drawn / "test_lmdb")
    assert list(found) == [f"{i:08d}_test/test_{i:06d}.jpg" for i in range(5)]
    assert list(found.values()) == list(expected.values())
    sizes = [f"{each['id']} {each['height']} {each['width']}" for each in content["images"]]
    assert Path("test_name_size.txt").read_text().splitlines() == sizes
    convert("--coco=coco/annotations/instances_test.json", "--images=coco/test", "--label_map_file=map", "again")
    assert records("again") == found


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["db"], "expected ROOT_FOLDER/ LIST DB, got 1 path(s)"),
        (["./", "train.txt", "db", "--set", "x"], "--set and --images are for --voc and --coco"),
        (["--anno_type=detection", "./", "train.txt", "db"], "need the labels of the classes: give --label_map_file"),
        ([*DETECTION, "--label_map_file=nowhere", "./", "train.txt", "db"], "there is no file 'nowhere'"),
        ([*DETECTION, "./", "labelmap.prototxt", "db"], 'expected "image annotation" in each line'),
        ([*DETECTION, "--resize_width=3", "./", "train.txt", "db"], "must be given together, got 3 and 0"),
        ([*DETECTION, "--min_dim=-3", "./", "train.txt", "db"], "min_dim must be 0 or more, got -3"),
        (["--voc=VOC", "a", "b", "c"], "expected DB alone with --voc and --coco, got 3 paths"),
        (["--voc=VOC", "--coco=VOC", "db"], "give --voc or --coco, but not both"),
        (["--voc=VOC", "db"], "need the set of images: give --set NAME"),
        (["--voc=VOC", "--set=val", "db"], "there is no set 'val' in VOC/ImageSets/Main: it has test, train"),
        (["--voc=nowhere", "--set=val", "db"], "there is no set 'val' in nowhere/ImageSets/Main"),
        (["--coco=VOC", "--set=val", "db"], "there are no annotations of set 'val' in VOC: expected annotations/"),
        (["--coco=train.txt", "db"], "--coco with a file needs --images FOLDER"),
    ],
)  # fmt: skip
def test_wrong_command_lines(folder, convert, words, sentence):
    assert sentence in convert(*words, status=1)
    assert not Path("db").exists()


# -- the other programs ------------------------------------------------------------------------------------------------


def test_create_annoset(folder, run, drawn):
    words = ["create_annoset", "--anno-type=detection", "--label-map-file=labelmap.prototxt", "--min-dim=0",
             "--resize-width=0", "--resize-height=0", "--check-label", "--encoded", "--encode-type=jpg"]  # fmt: skip
    paths = [".", "test.txt", "made/VOC/test_lmdb", "examples/VOC"]
    for more in ([], ["--redo"]):
        status, out, err = run(*words, *more, *paths)
        assert status == 0, out + err
        assert Path("examples/VOC/test_lmdb").is_symlink()
        assert records("examples/VOC/test_lmdb") == records(drawn / "test_lmdb")
    status, _, err = run(*words, *paths)
    assert status == 1 and "'made/VOC/test_lmdb' exists already: --redo replaces it" in err
    status, _, err = run(*words, "--redo", *paths[:3], "made/VOC")
    assert status == 1 and "would replace what is no link" in err
    assert os.path.isdir("made/VOC/test_lmdb")
    for db in ("VOC", "labelmap.prototxt"):
        status, out, err = run(*words, "--redo", *paths[:2], db, paths[3])
        assert status == 1 and f"'{db}' exists already, and is no database: remove it first" in err
        assert "Processed" not in out + err


def test_an_unknown_type_of_image_files(folder, run):
    for words in (["convert_annoset", *DETECTION, "./", "train.txt"], ["convert_imageset", "./", "train.txt"]):
        status, out, err = run(*words, "db", "--encode_type=foo")
        assert status == 1 and "encode_type must be a type of image files, such as png or jpg, got 'foo'" in err
        assert not Path("db").exists()


def test_get_image_size(folder, run, drawn):
    assert run("get_image_size", ".", "test.txt", "sizes")[0] == 0
    assert Path("sizes").read_text() == (drawn / "test_name_size.txt").read_text()
    Path("ids").write_text("".join(f"test_{i:06d} {i + 7}\n" for i in range(5)))
    assert run("get_image_size", "--name_id_file=ids", ".", "test.txt", "sizes")[0] == 0
    assert Path("sizes").read_text().splitlines()[0] == "7 64 64"
    Path("ids").write_text("test_000000 1\n")
    status, _, err = run("get_image_size", "--name_id_file=ids", ".", "test.txt", "sizes")
    assert status == 1 and "'ids' has no id of image 'test_000001'" in err
    assert "cannot read image nowhere/VOC" in run("get_image_size", "nowhere", "test.txt", "sizes")[2]


def test_create_label_map(folder, run, drawn):
    status, out, _ = run("create_label_map", "--include_background", str(drawn / "classes.txt"), "map")
    assert status == 0 and "Wrote map: 6 classes" in out
    assert Path("map").read_text() == (drawn / "labelmap.prototxt").read_text()
