"""Databases with a border around the images."""

import numpy as np
import pytest

from helpers.readers import write_images
from minicaffe.data.datasets.padded import pad_database
from minicaffe.data.datum import datum_to_array
from minicaffe.data.db import open_db
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2


@pytest.fixture
def pictures(tmp_path):
    """Write twelve images (3, 5, 4) to a database; return its path and the array."""
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 5, 4), np.uint8)
    return str(write_images(tmp_path / "plain_lmdb", images, labels=10)), images


def test_the_picture_stands_inside_a_border_of_the_mean_colour(tmp_path, pictures):
    source, images = pictures
    color = pad_database(source, str(tmp_path / "padded_lmdb"), 2)
    assert color == tuple(int(round(m)) for m in images.mean((0, 2, 3)))
    with open_db(tmp_path / "padded_lmdb", "lmdb") as database:
        records = [(bytes(key), bytes(value)) for key, value in database.items()]
    assert [key for key, _ in records] == [b"%05d" % i for i in range(12)]
    for i, (_, value) in enumerate(records):
        datum = caffe_pb2.Datum.FromString(value)
        image = datum_to_array(datum)
        assert datum.label == i % 10 and image.shape == (3, 9, 8)
        np.testing.assert_array_equal(image[:, 2:-2, 2:-2], images[i])
        border = image.astype(float)
        border[:, 2:-2, 2:-2] = np.array(color)[:, None, None]
        np.testing.assert_array_equal(border, np.broadcast_to(np.array(color)[:, None, None], (3, 9, 8)))


def test_an_older_copy_is_replaced(tmp_path, pictures):
    source, _ = pictures
    for pad in (1, 3):
        pad_database(source, str(tmp_path / "padded_lmdb"), pad)
    with open_db(tmp_path / "padded_lmdb", "lmdb") as database:
        datum = caffe_pb2.Datum.FromString(bytes(next(iter(database.items()))[1]))
    assert (datum.height, datum.width) == (11, 10)


def test_no_border_is_a_mistake(tmp_path, pictures):
    with pytest.raises(DataError, match="at least 1 pixel wide, got 0"):
        pad_database(pictures[0], str(tmp_path / "padded_lmdb"), 0)


def test_the_action_pads_the_prepared_training_set(tmp_path, monkeypatch, capsys):
    from minicaffe.cli import main
    from minicaffe.data.datasets import synthetic

    monkeypatch.chdir(tmp_path)
    synthetic.prepare("data/cifar10", train=20, test=10)
    assert main(["data", "cifar10", "--pad", "4"]) == 0
    assert "cifar10_train_pad4_lmdb" in capsys.readouterr().out
    with open_db("data/cifar10/cifar10_train_pad4_lmdb", "lmdb") as database:
        datum = caffe_pb2.Datum.FromString(bytes(next(iter(database.items()))[1]))
    assert (datum.channels, datum.height, datum.width) == (3, 40, 40)
