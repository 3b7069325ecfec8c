"""The drawn data set of `minicaffe data words`."""

import h5py
import numpy as np
import pytest

from minicaffe.data.datasets import words
from minicaffe.data.datasets.records import describe
from minicaffe.errors import DataError


def arrays(path):
    with h5py.File(path) as file:
        return file["data"][:], file["label"][:]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    words.prepare(str(folder), train=60, test=10)
    return folder


def test_the_files(drawn):
    for part, count in (("train", 60), ("test", 10)):
        data, label = arrays(drawn / f"{part}.h5")
        assert data.shape == (count, 1, 32, 96) and label.shape == (count, 7) and data.dtype == label.dtype == np.uint8
        assert (drawn / f"{part}.txt").read_text() == f"{drawn}/{part}.h5\n"
        lengths = [len(words.text_of(row)) for row in label]
        assert min(lengths) >= 3 and max(lengths) <= 7 and [np.count_nonzero(row) for row in label] == lengths
    assert {"A", "Z"} <= {letter for row in arrays(drawn / "train.h5")[1] for letter in words.text_of(row)}
    assert describe(drawn) == words.ABOUT
    assert (drawn / "classes.txt").read_text().split() == ["(blank)", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]


def test_a_picture_depends_on_seed_part_and_number_alone(drawn, tmp_path):
    for name, seed, train in (("more", 1, 70), ("other", 2, 60)):
        words.prepare(str(tmp_path / name), train=train, test=10, seed=seed)
    for kind in range(2):
        first, more, other = (arrays(f / "train.h5")[kind] for f in (drawn, tmp_path / "more", tmp_path / "other"))
        np.testing.assert_array_equal(more[:60], first)
        assert (other != first).any() and (arrays(drawn / "test.h5")[kind] != first[:10]).any()


def test_all_of_a_word_is_in_the_picture_and_differs_from_its_ground():
    """Of words drawn with the same random numbers, what differs are the letters."""
    word, blank = np.full(7, words.LETTERS.index("W")), np.full(7, words.LETTERS.index("I"))
    for seed in range(20):
        first, second = (
            words.draw_word(np.random.Generator(np.random.Philox(seed)), each).astype(int) for each in (word, blank)
        )
        assert np.count_nonzero(np.abs(first - second) > 25) > 60
        lines, height = words._layout(np.random.Generator(np.random.Philox(seed)), word)
        assert 0 < height <= 20 and (lines >= 0).all() and (lines <= (96, 32)).all()


def test_texts():
    assert words.text_of([8, 9, 0, 3]) == "HI" and words.text_of([26, -1]) == "Z" and words.text_of([]) == ""


@pytest.mark.parametrize("wrong", [{"train": 0}, {"test": 0}, {"seed": -1}])
def test_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(DataError, match="expected at least one picture and a seed of 0 or more, got "):
        words.prepare(str(tmp_path), **wrong)
