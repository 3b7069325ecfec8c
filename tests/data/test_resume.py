"""A resumed training uses the same images, crops and flips as an uninterrupted one."""

import numpy as np
import pytest

from helpers.annotated import TRAINING, random_records, write_records
from helpers.readers import write_images

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
        transform_param {{ crop_size: 6 mirror: true mean_value: 120 scale: 0.02 }}
        data_param {{ source: "train_db" backend: {backend} batch_size: 7 shuffle: {shuffle} }} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
        transform_param {{ crop_size: 6 mean_value: 120 scale: 0.02 }}
        data_param {{ source: "train_db" backend: {backend} batch_size: 5 }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "drop" type: "Dropout" bottom: "ip" top: "ip" }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""

SOLVER = """
net: "net.prototxt" test_iter: 2 test_interval: 4 base_lr: 0.05 momentum: 0.9 lr_policy: "fixed"
max_iter: 20 snapshot_prefix: "snap" snapshot_format: HDF5 random_seed: 5
"""


@pytest.mark.parametrize("shuffle", ["false", "true"])
@pytest.mark.parametrize("backend", ["LMDB", "LEVELDB"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch, backend, shuffle):
    from minicaffe import get_solver

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    write_images("train_db", rng.integers(0, 256, (30, 3, 8, 8), np.uint8), labels=10, backend=backend)
    (tmp_path / "net.prototxt").write_text(NET.format(backend=backend, shuffle=shuffle))
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    straight = get_solver("solver.prototxt")
    straight.step(9)
    straight.snapshot()
    straight.step(11)
    resumed = get_solver("solver.prototxt")
    resumed.restore("snap_iter_9.solverstate.h5")
    resumed.step(11)
    for mine, other in zip(straight.net.params["ip"], resumed.net.params["ip"], strict=True):
        assert np.array_equal(mine.data, other.data)


BOXES = f"""
layer {{ name: "data" {TRAINING} top: "data" top: "label" }}
layer {{ name: "none" type: "Silence" bottom: "label" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 1e-6
        reduction_param {{ operation: SUMSQ }} }}
"""


def test_images_with_boxes(tmp_path, monkeypatch):
    """Their distortions, expansions and samples are those of the uninterrupted run, too."""
    from minicaffe import get_solver

    monkeypatch.chdir(tmp_path)
    write_records("annotated", random_records(13))
    (tmp_path / "net.prototxt").write_text(BOXES)
    (tmp_path / "solver.prototxt").write_text(SOLVER.replace("test_iter: 2 test_interval: 4", ""))
    straight = get_solver("solver.prototxt")
    straight.step(9)
    straight.snapshot()
    straight.step(4)
    resumed = get_solver("solver.prototxt")
    resumed.restore("snap_iter_9.solverstate.h5")
    resumed.step(4)
    for name in ("data", "label"):
        np.testing.assert_array_equal(resumed.net.blobs[name].data, straight.net.blobs[name].data)
    for mine, other in zip(straight.net.params["ip"], resumed.net.params["ip"], strict=True):
        assert np.array_equal(mine.data, other.data)
