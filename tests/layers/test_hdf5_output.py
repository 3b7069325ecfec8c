"""HDF5Output: batches in one file, which HDF5Data reads back."""

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


def test_what_is_refused(tmp_path):
    with pytest.raises(LayerError, match="HDF5Output layer 'out': bottoms must hold equally many items"):
        set_up(tmp_path / "out.h5", (DATA, np.zeros(3)))
    with pytest.raises(LayerError, match="must name a file_name"):
        set_up("")
    layer, bottom = set_up(tmp_path / "none" / "out.h5")
    with pytest.raises(DataError, match=r"cannot write .*out.h5 \(its folder does not exist\)"):
        layer.forward(bottom, [])
    layer, bottom = set_up(tmp_path / "out.h5")
    layer.forward(bottom, [])
    bottom[0].reshape(2, 3, 4, 5)
    with pytest.raises(LayerError, match=r"batches must agree in shape: data holds \(3, 4, 2\), got \(3, 4, 5\)"):
        layer.forward(bottom, [])
