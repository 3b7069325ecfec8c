"""HDF5Output: batches in one file, which HDF5Data reads back."""

import contextlib
import resource

import h5py
import numpy as np
import pytest

from minicaffe.errors import DataError, LayerError
from minicaffe.gradient_check import blobs_of, layer_from_text

DATA, LABELS = np.random.default_rng(5).standard_normal((2, 3, 4, 2)).astype(np.float32), np.array([3.0, 4.0])


def set_up(path, arrays=(DATA, LABELS)):
    layer = layer_from_text(
        f'name: "out" type: "HDF5Output" hdf5_output_param {{ file_name: "{path}" }}', 0, np.float32
    )
    bottom = blobs_of(arrays, np.float32)
    layer.initialize(bottom, [])
    return layer, bottom


def test_batches_follow_each_other(tmp_path):
    layer, bottom = set_up(tmp_path / "out.h5")
    layer.forward(bottom, [])
    bottom[0].data[...] += 1
    layer.forward(bottom, [])
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.array_equal(file["data"], np.concatenate([DATA, DATA + 1]))
        assert file["label"].shape == (4, 1, 1, 1)
        assert file["label"][:, 0, 0, 0].tolist() == [3, 4, 3, 4]


def test_a_new_layer_replaces_the_file(tmp_path):
    for _ in range(2):
        layer, bottom = set_up(tmp_path / "out.h5")
        layer.forward(bottom, [])
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file["data"]) == 2


@contextlib.contextmanager
def file_size_limit(size):
    """Let writes beyond `size` bytes of a file fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_set_up_leaves_an_older_file_alone(tmp_path):
    (tmp_path / "out.h5").write_text("older")
    layer, bottom = set_up(tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_text() == "older"
    with file_size_limit(1000), pytest.raises(DataError, match="HDF5Output layer 'out': cannot write '.*out.h5': File"):
        layer.forward(bottom, [])
    assert (tmp_path / "out.h5").read_text() == "older" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("room", range(0, 20000, 1500))
def test_a_disk_that_becomes_full(tmp_path, room):
    """The HDF5 library would end the process."""
    path = tmp_path / "out.h5"
    layer, bottom = set_up(path, (np.ones((64, 100)), np.ones(64)))
    layer.forward(bottom, [])
    with file_size_limit(path.stat().st_size + room):
        with pytest.raises(DataError, match="HDF5Output layer 'out': cannot write .*out.h5: File too large"):
            layer.forward(bottom, [])
    with h5py.File(path) as file:
        assert file["data"].shape == (64, 100, 1, 1) and (file["data"][()] == 1).all()


def test_what_is_refused(tmp_path):
    with pytest.raises(LayerError, match="HDF5Output layer 'out': bottoms must hold equally many items"):
        set_up(tmp_path / "out.h5", (DATA, np.zeros(3)))
    with pytest.raises(LayerError, match="must name a file_name"):
        set_up("")
    with pytest.raises(DataError, match=r"cannot write .*out.h5 \(its folder does not exist\)"):
        set_up(tmp_path / "none" / "out.h5")
    with pytest.raises(DataError, match="'out': cannot write .*: (it is no regular file|Is a directory)"):
        set_up(tmp_path)
    layer, bottom = set_up(tmp_path / "out.h5")
    layer.forward(bottom, [])
    bottom[0].reshape(2, 3, 4, 5)
    with pytest.raises(LayerError, match=r"batches must agree in shape: data holds \(3, 4, 2\), got \(3, 4, 5\)"):
        layer.forward(bottom, [])
