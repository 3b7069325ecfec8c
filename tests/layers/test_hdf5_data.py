"""HDF5Data: batches across files, shuffling, resuming, and broken files."""

import os

import h5py
import numpy as np
import pytest

from helpers.readers import data_layer
from minicaffe.errors import DataError, LayerError


def write(path, rows, start=0, dtype="f4", label="label", shape=(2, 3)):
    with h5py.File(path, "w") as file:
        numbers = np.arange(start, start + rows)
        file["data"] = (numbers.reshape(-1, *(1 for _ in shape)) * np.ones(shape)).astype(dtype)
        file[label] = numbers.astype("i8")


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "a.h5", 5)
    write(tmp_path / "b.h5", 3, start=5)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.h5\n{tmp_path}/b.h5\n")
    return tmp_path / "list.txt"


def set_up(source, text="batch_size: 4", more="", tops=("data", "label")):
    names = " ".join(f'top: "{name}"' for name in tops)
    return data_layer(
        f'name: "h" type: "HDF5Data" {names} hdf5_data_param {{ source: "{source}" {text} }} {more}', len(tops)
    )


def labels_of(layer, blobs, count):
    result = []
    for _ in range(count):
        layer.forward([], blobs)
        assert np.array_equal(blobs[0].data[:, 0, 0], blobs[1].data)  # rows of data and label stay together
        result += blobs[1].data.astype(int).tolist()
    return result


def assert_resumes(layer, blobs, source, text):
    """A layer that loads the state of another one continues where that one does."""
    state = layer.state()
    expected = labels_of(layer, blobs, 5)
    other, other_blobs = set_up(source, text)
    other.load_state(state)
    assert labels_of(other, other_blobs, 5) == expected


def test_rows_run_over_the_ends_of_files_and_of_the_list(source):
    layer, blobs = set_up(source)
    assert [blob.shape for blob in blobs] == [(4, 2, 3), (4,)]
    assert labels_of(layer, blobs, 5) == [i % 8 for i in range(20)]


def test_a_batch_larger_than_everything(source):
    assert labels_of(*set_up(source, "batch_size: 19"), 1) == [i % 8 for i in range(19)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i2", "i4"])
def test_any_number_type(source, dtype):
    for name, rows, start in (("a", 5, 0), ("b", 3, 5)):
        write(source.parent / f"{name}.h5", rows, start, dtype)
    assert labels_of(*set_up(source), 2) == list(range(8))


def test_shuffle_keeps_files_apart_and_can_be_resumed(source):
    layer, blobs = set_up(source, "batch_size: 8 shuffle: true")
    rounds = [labels_of(layer, blobs, 1) for _ in range(8)]
    for order in rounds:
        assert sorted(order) == list(range(8))
        assert {*order[:5]} == {0, 1, 2, 3, 4} or {*order[:3]} == {5, 6, 7}
    assert len({tuple(order) for order in rounds}) > 3
    assert_resumes(layer, blobs, source, "batch_size: 8 shuffle: true")


def test_resuming_in_the_middle_of_a_file(source):
    layer, blobs = set_up(source, "batch_size: 3 shuffle: true")
    labels_of(layer, blobs, 2)
    assert_resumes(layer, blobs, source, "batch_size: 3 shuffle: true")


def test_a_file_cut_in_half(source):
    path = source.parent / "a.h5"
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(DataError, match="HDF5Data layer 'h': HDF5 file .*a.h5 cannot be read: .*truncated"):
        set_up(source)


def test_a_second_file_that_does_not_fit_is_named_when_it_is_reached(source):
    write(source.parent / "b.h5", 3, shape=(2, 2))
    layer, blobs = set_up(source)
    layer.forward([], blobs)
    with pytest.raises(DataError, match=r'"data" of HDF5 file .*b.h5 has rows of shape \(2, 2\), expected \(2, 3\)'):
        layer.forward([], blobs)


def test_files_that_are_missing_or_hold_something_else(source):
    path = source.parent / "a.h5"
    write(path, 5, label="target")
    with pytest.raises(DataError, match='a.h5 has no dataset "label": it holds data, target'):
        set_up(source)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros((4, 2)), np.zeros(3)
    with pytest.raises(DataError, match='equally many rows, at least one: "data" has 4, "label" 3'):
        set_up(source)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros((4, 2)), "text"
    with pytest.raises(DataError, match='"label" of HDF5 file .*a.h5 must be an array of numbers'):
        set_up(source)
    path.write_text("no hdf5")
    with pytest.raises(DataError, match="a.h5 cannot be read: "):
        set_up(source)
    path.unlink()
    with pytest.raises(DataError, match="a.h5 does not exist"):
        set_up(source)


def test_a_saved_position_that_does_not_fit(source, caplog):
    layer, blobs = set_up(source)
    labels_of(layer, blobs, 1)
    write(source.parent / "a.h5", 3)
    other, _ = set_up(source)
    with pytest.raises(
        DataError, match="HDF5Data layer 'h': cannot go on from row 4 of HDF5 file .*a.h5: .* only 3 rows"
    ):
        other.load_state(layer.state())
    other, other_blobs = set_up(source)
    other.load_state({**layer.state(), "position": {"key": "00001"}})
    assert "HDF5Data layer 'h' reads from its start" in caplog.text and labels_of(other, other_blobs, 1)[:3] == [
        0,
        1,
        2,
    ]


def test_a_shuffle_that_is_switched_on_or_off_before_resuming(source):
    for first, second in (("", "shuffle: true"), ("shuffle: true", "")):
        layer, blobs = set_up(source, f"batch_size: 8 {first}")
        labels_of(layer, blobs, 1)
        other, other_blobs = set_up(source, f"batch_size: 8 {second}")
        other.load_state(layer.state())
        rounds = [labels_of(other, other_blobs, 1) for _ in range(6)]
        assert all(sorted(r) == list(range(8)) for r in rounds)
        assert (rounds != [list(range(8))] * 6) == bool(second)


def test_lists_that_are_no_plain_text(source):
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    set_up(source)
    with pytest.raises(DataError, match="HDF5Data layer 'h': HDF5 file list .*a.h5 must be text, but it is an HDF5"):
        set_up(source.parent / "a.h5")
    source.write_text(source.read_text(), encoding="utf-16")
    with pytest.raises(DataError, match="HDF5Data layer 'h': HDF5 file list .*list.txt is UTF-16: save it as UTF-8"):
        set_up(source)


def test_bad_parameters(source, tmp_path):
    with pytest.raises(LayerError, match="HDF5Data layer 'h': does not transform data: remove transform_param"):
        set_up(source, more="transform_param { scale: 2 }")
    with pytest.raises(LayerError, match="hdf5_data_param.batch_size must be positive, got 0"):
        set_up(source, "")
    with pytest.raises(DataError, match="cannot read HDF5 file list .*none: No such file"):
        set_up(tmp_path / "none")
    source.write_text("\n")
    with pytest.raises(DataError, match="HDF5 file list .*list.txt is empty"):
        set_up(source)
