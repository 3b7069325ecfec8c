"""`minicaffe data faces`: drawn identities."""

import numpy as np
import pytest

from minicaffe.data.datasets import faces
from minicaffe.data.datum import datum_to_array
from minicaffe.data.db import open_db
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2


def read(path):
    with open_db(path, "lmdb") as database:
        return [caffe_pb2.Datum.FromString(bytes(value)) for _, value in database.items()]


def all_of(batches):
    images, labels = zip(*batches)
    return np.concatenate(images), np.concatenate(labels)


def test_the_databases(tmp_path):
    dest = str(tmp_path / "faces")
    faces.prepare(dest, train=50, test=6)
    train, pairs = read(f"{dest}/train_lmdb"), read(f"{dest}/pairs_lmdb")
    assert [datum.label for datum in train] == [0, 1, 2] * 16 + [0, 1]  # 20 pictures of each
    assert [datum.label for datum in pairs] == [0, 1] * 3
    assert datum_to_array(train[0]).shape == (3, 32, 32) and datum_to_array(pairs[0]).shape == (6, 32, 32)
    assert (tmp_path / "faces" / "classes.txt").read_text().split("\n")[:3] == [
        "identity 0",
        "identity 1",
        "identity 2",
    ]


def test_pictures_depend_on_seed_and_number_alone():
    first, again, other = (all_of(faces.pictures(seed, 40))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert all((one != two).any() for one, two in zip(first, other))
    assert len({image.tobytes() for image in first}) == 40
    np.testing.assert_array_equal(all_of(faces.pairs(1, 8))[0], all_of(faces.pairs(1, 20))[0][:8])


def test_pictures_of_one_identity_are_nearer_than_those_of_two():
    """On average, in the middle of the picture; no pixel tells them apart."""
    images, same = all_of(faces.pairs(3, 400))
    middle = images[:, :, 8:24, 8:24].astype(float)
    distance = np.abs(middle[:, :3] - middle[:, 3:]).mean((1, 2, 3))
    assert distance[same == 1].mean() < distance[same == 0].mean()
    assert max(np.mean((distance < limit) == same) for limit in np.quantile(distance, np.linspace(0, 1, 99))) < 0.75


@pytest.mark.parametrize("bad", [{"train": 0}, {"test": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(bad, tmp_path):
    with pytest.raises(DataError, match="expected at least one picture and a seed of 0 or more, got"):
        faces.prepare(str(tmp_path / "faces"), **bad)
