"""Weights in files: what is written is read again, and what does not fit is told in one sentence."""

import logging
import os

import h5py
import numpy as np
import pytest

import minicaffe
from minicaffe import files
from minicaffe.errors import SnapshotError
from minicaffe.proto import caffe_pb2, parse_text

NET = """
name: "n" layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "a/one" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


def net(text=NET):
    return minicaffe.Net(parse_text(text, caffe_pb2.NetParameter()), phase=minicaffe.TEST)


def values(made):
    return [blob.data.copy() for blobs in made.params.values() for blob in blobs]


@pytest.fixture
def trained():
    made = net()
    for blobs in made.params.values():
        blobs[1].data[...] = np.random.default_rng(0).standard_normal(4)
    return made


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_round_trip(trained, tmp_path, kind):
    path = str(tmp_path / "w.caffemodel")
    trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    other = net()
    other.copy_from(path)  # HDF5 is known by its content, whatever the name
    for a, b in zip(values(other), values(trained)):
        np.testing.assert_array_equal(a, b)


def test_hdf5_layout(trained, tmp_path):
    path = tmp_path / "w.caffemodel.h5"
    trained.save_hdf5(path, write_diff=True)
    with h5py.File(path) as file:
        assert sorted(file) == ["data", "diff"]
        assert list(file["data/in"]) == [], "layers without parameters have an empty group"
        assert sorted(file["data"]["a/one"]) == ["0", "1"]
        assert list(file["data/b"]) == ["1"], "a shared parameter is written with its owner alone"
        assert file["data/b/1"].dtype == np.float32


def test_layers_that_only_one_side_has_are_passed_over(trained, tmp_path, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    path = str(tmp_path / "w.caffemodel")
    trained.save(path)
    net(NET.replace('name: "b"', 'name: "c"')).copy_from(path)
    assert "Ignoring source layer b" in caplog.messages


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_other_shapes_and_counts_are_refused(trained, tmp_path, kind):
    path = str(tmp_path / "w")
    trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    with pytest.raises(
        SnapshotError, match=r"param 0 .*'a/one'.*expects \(4, 5\), the file has \(4, 4\).*rename the layer"
    ):
        net(NET.replace("dim: 4", "dim: 5").replace('param { name: "w" }', "")).copy_from(path)
    with pytest.raises(SnapshotError, match="another number of blobs: the net expects 1, the file has 2"):
        net(NET.replace("num_output: 4", "num_output: 4 bias_term: false")).copy_from(path)


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_truncated_files(trained, tmp_path, kind):
    path = tmp_path / "w.caffemodel"
    trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(minicaffe.errors.MinicaffeError, match="w.caffemodel.*(truncated|damaged)"):
        net().copy_from(path)


def test_missing_files(tmp_path):
    with pytest.raises(SnapshotError, match="cannot open the weights '.*no.caffemodel': No such file"):
        net().copy_from(tmp_path / "no.caffemodel")


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "w"
    path.write_text("old")
    with pytest.raises(SnapshotError, match="cannot write '.*w': No space left on device"):
        with files.replacing(path, SnapshotError) as temporary:
            with open(temporary, "w") as file:
                file.write("half")
            raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["w"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_a_full_disk(trained, tmp_path, kind, monkeypatch):
    """The snapshot goes to a device that is always full; the snapshot from before stays."""
    path = tmp_path / "w"
    trained.save(path)
    before = path.read_bytes()

    def full(suffix, prefix, dir):
        os.symlink("/dev/full", tmp_path / "temporary")
        return os.open(os.devnull, os.O_RDONLY), str(tmp_path / "temporary")

    monkeypatch.setattr(files.tempfile, "mkstemp", full)
    with pytest.raises(SnapshotError, match="cannot write '.*w': "):
        trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    assert path.read_bytes() == before
