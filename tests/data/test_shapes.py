"""The drawn data set of `minicaffe data shapes`: databases of AnnotatedDatums, and the same as a VOC folder."""

import numpy as np
import pytest

from minicaffe.data.annotations.records import boxes_of
from minicaffe.data.datasets import shapes
from minicaffe.data.datasets.records import describe
from minicaffe.data.datasets.scenes import CLASSES, draw_scene
from minicaffe.data.db import open_db
from minicaffe.data.image import decode_image, read_image
from minicaffe.data.map_list import read_pairs
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2


def records(path, backend="lmdb"):
    with open_db(path, backend) as database:
        return {key.decode(): caffe_pb2.AnnotatedDatum.FromString(bytes(value)) for key, value in database.items()}


def scene(number, size=64):
    return draw_scene(np.random.Generator(np.random.Philox(number)), size)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    shapes.prepare(str(folder), train=12, test=4, size=64, voc_folder=True)
    return folder


def test_the_files(drawn):
    train, test = records(drawn / "train_lmdb"), records(drawn / "test_lmdb")
    assert list(train) == [f"{i:08d}_VOC/JPEGImages/train_{i:06d}.jpg" for i in range(12)] and len(test) == 4
    for record in (*train.values(), *test.values()):
        assert record.type == caffe_pb2.AnnotatedDatum.BBOX and record.datum.encoded and record.datum.label == -1
        assert decode_image(record.datum.data).shape == (3, 64, 64)
        assert 1 <= len(boxes_of(record)) <= 6
    assert describe(drawn) == shapes.ABOUT
    assert (drawn / "classes.txt").read_text().split() == list(CLASSES)
    assert (drawn / "test_name_size.txt").read_text().splitlines()[1] == "test_000001 64 64"
    assert 'name: "circle"\n  label: 1\n' in (drawn / "labelmap.prototxt").read_text()


def test_the_voc_folder_holds_the_same_pictures(drawn):
    for part in ("train", "test"):
        names = (drawn / f"VOC/ImageSets/Main/{part}.txt").read_text().split()
        for name, record in zip(names, records(drawn / f"{part}_lmdb").values(), strict=True):
            assert (drawn / f"VOC/JPEGImages/{name}.jpg").read_bytes() == record.datum.data
            assert (drawn / f"VOC/Annotations/{name}.xml").read_text().count("<object>") == len(boxes_of(record))


def test_the_lists_of_label_maps(drawn):
    """Each label of a map is that of a box, inside which all of its pixels are."""
    for part in ("train", "test"):
        pairs = read_pairs(drawn / f"{part}_maps.txt")
        for (image, path), record in zip(pairs, records(drawn / f"{part}_lmdb").values(), strict=True):
            assert (drawn / image).read_bytes() == record.datum.data
            labels, boxes = read_image(drawn / path, False)[0], boxes_of(record)
            assert labels.shape == (64, 64) and {*np.unique(labels)} - {0} == {box.label for box in boxes}
            inside = np.zeros((6, 64, 64), bool)
            for label, xmin, ymin, xmax, ymax, _ in boxes:
                left, top, right, bottom = (round(edge * 64) for edge in (xmin, ymin, xmax, ymax))
                inside[label, top:bottom, left:right] = True
            inside[0] = True
            assert np.take_along_axis(inside, labels[None].astype(int), 0).all()


def test_a_picture_depends_on_seed_part_and_number_alone(drawn, tmp_path):
    for name, seed, train in (("more", 1, 20), ("other", 2, 12)):
        shapes.prepare(str(tmp_path / name), train=train, test=4, size=64, seed=seed)
    first, more, other = (records(folder / "train_lmdb") for folder in (drawn, tmp_path / "more", tmp_path / "other"))
    assert list(more.items())[:12] == list(first.items())
    assert not any(record in other.values() for record in first.values())
    assert not any(record in first.values() for record in records(drawn / "test_lmdb").values())


def test_boxes_enclose_what_is_visible():
    boxes = [box for i in range(40) for box in scene(i).boxes]
    for label, xmin, ymin, xmax, ymax, _ in boxes:
        assert 1 <= label <= len(CLASSES)
        assert 0 <= xmin < xmax <= 1 and 0 <= ymin < ymax <= 1
        assert all((edge * 64).is_integer() for edge in (xmin, ymin, xmax, ymax))
    assert {box.label for box in boxes} == set(range(1, len(CLASSES) + 1))
    assert 0 < sum(box.difficult for box in boxes) < len(boxes) / 5


class Quiet(np.random.Generator):
    """A generator whose normal numbers are 0."""

    def __init__(self, seed):
        super().__init__(np.random.Philox(seed))

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)


def test_a_box_is_exact(monkeypatch):
    """A shape alone, of one bright colour on black, without texture and noise."""
    from minicaffe.data.datasets import scenes

    def plain(rng, colour, height, width):
        return np.ones((3, height, width), np.float32)

    monkeypatch.setattr(scenes, "_MOST_SHAPES", 1)
    monkeypatch.setattr(scenes, "_texture", plain)
    monkeypatch.setattr(scenes, "_background", lambda rng, colour, size: np.zeros((3, size, size), np.float32))
    for i in range(30):
        picture, (box,), labels = draw_scene(Quiet(i), 64)
        np.testing.assert_array_equal(labels[0], np.where(picture[0] > 127, box.label, 0))
        rows, columns = (np.flatnonzero((picture[0] > 127).any(axis)) for axis in (1, 0))
        assert [int(edge * 64) for edge in box[1:5]] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 31}, "a picture of the shapes has 32 to 1024 pixels on each side, got 31"),
        ({"size": 1025}, "got 1025"),
        ({"train": 0}, "expected at least one picture and a seed of 0 or more, got 0, 500 and seed 1"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_arguments_out_of_range(tmp_path, options, sentence):
    with pytest.raises(DataError, match=sentence):
        shapes.prepare(str(tmp_path / "x"), **options)
    assert not (tmp_path / "x").exists()
