"""Solvers that train together read the data in shares: record i belongs to rank i % size."""

import h5py
import numpy as np
import pytest
from PIL import Image

import minicaffe
from helpers.annotated import record, write_records
from helpers.ranks import run_ranks
from minicaffe.core.settings import restored, settings
from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.errors import UsageError
from minicaffe.proto import caffe_pb2, parse_text

COUNT = 7  # records, or rows in two files

LAYERS = {
    "lmdb": 'type: "Data" data_param {{ source: "db" backend: LMDB batch_size: {n} }}',
    "shuffled": 'type: "Data" data_param {{ source: "db" backend: LMDB batch_size: {n} shuffle: true }}',
    "annotated": 'type: "AnnotatedData" data_param {{ source: "annotated" backend: LMDB batch_size: {n} }}',
    "shuffled annotated": 'type: "AnnotatedData" data_param {{ source: "annotated" backend: LMDB batch_size: {n} '
    "shuffle: true }}",
    "images": 'type: "ImageData" image_data_param {{ source: "list" batch_size: {n} }}',
    "shuffled images": 'type: "ImageData" image_data_param {{ source: "list" batch_size: {n} shuffle: true '
    "rand_skip: 5 }}",
    "maps": 'type: "DenseImageData" dense_image_data_param {{ source: "maps" batch_size: {n} }}',
    "shuffled maps": 'type: "ImageLabelmapData" image_data_param {{ source: "maps" batch_size: {n} shuffle: true '
    "rand_skip: 5 normalize: false }}",
    "hdf5": 'type: "HDF5Data" hdf5_data_param {{ source: "files" batch_size: {n} }}',
    "shuffled hdf5": 'type: "HDF5Data" hdf5_data_param {{ source: "files" batch_size: {n} shuffle: true }}',
}


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_db("db", "lmdb", "w") as database:
        for i in range(COUNT):
            database.put(f"{i:03d}", array_to_datum(np.full((1, 2, 2), i, np.uint8), i).SerializeToString())
    write_records("annotated", (record(np.zeros((1, 2, 2), np.uint8), [(i, 0, 0, 0, 1, 1, 0)]) for i in range(COUNT)))
    for i in range(COUNT):
        Image.fromarray(np.full((2, 2), i, np.uint8)).save(f"{i}.png")
    (tmp_path / "list").write_text("".join(f"{i}.png {i}\n" for i in range(COUNT)))
    (tmp_path / "maps").write_text("".join(f"{i}.png {i}.png\n" for i in range(COUNT)))
    for name, rows in (("a.h5", range(3)), ("b.h5", range(3, COUNT))):
        with h5py.File(name, "w") as file:
            file["data"] = file["label"] = np.array(rows, np.float32)[:, None]
    (tmp_path / "files").write_text("a.h5\nb.h5\n")
    with restored():
        yield
    settings.solver_rank, settings.solver_count = 0, 1


def net(kind, n, rank, size, phase=minicaffe.TRAIN):
    minicaffe.set_random_seed(5)  # the shuffles of all ranks are the same
    minicaffe.set_solver_count(size)
    minicaffe.set_solver_rank(rank)
    layer = f'layer {{ name: "data" top: "data" top: "label" {LAYERS[kind].format(n=n)} }}'
    return minicaffe.Net(parse_text(layer, caffe_pb2.NetParameter()), phase)


def labels(made, passes):
    """The labels of each pass; of annotated images the label of the one box of each, of a map its first pixel."""
    passed = (made.forward() and made.blobs["label"].data for _ in range(passes))
    of_maps = made.layers[0].type in ("DenseImageData", "ImageLabelmapData")
    part = (slice(None), 0, 0, 0) if of_maps else (0, 0, slice(None), 1)
    return [(each[part] if each.ndim == 4 else each.ravel()).copy() for each in passed]


@pytest.mark.parametrize("size", [2, 3, COUNT + 2])
@pytest.mark.parametrize("kind", LAYERS)
def test_shares_are_together_what_one_solver_reads(kind, size):
    """Over several rounds of the data, whose number of records no share divides."""
    passes, n = 6, 4
    whole = np.concatenate(labels(net(kind, n, 0, 1), passes * size))
    shares = [np.concatenate(labels(net(kind, n, rank, size), passes)) for rank in range(size)]
    np.testing.assert_array_equal(np.stack(shares, axis=1).ravel(), whole)


@pytest.mark.parametrize("kind", LAYERS)
def test_every_rank_goes_on_from_the_position_of_the_root(kind):
    straight = [labels(net(kind, 3, rank, 2), 8) for rank in range(2)]
    root = net(kind, 3, 0, 2)
    labels(root, 3)
    state = root.layers[0].state()
    for rank in range(2):
        resumed = net(kind, 3, rank, 2)
        resumed.layers[0].load_state(state)
        np.testing.assert_array_equal(labels(resumed, 5), straight[rank][3:])


@pytest.mark.parametrize("kind", LAYERS)
def test_test_nets_read_everything(kind):
    one, other = (labels(net(kind, 4, rank, 2, minicaffe.TEST), 3) for rank in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, labels(net(kind, 4, 0, 1, minicaffe.TEST), 3))


SOLVER = """
base_lr: 0.1 lr_policy: "fixed" random_seed: 3 net_param {{ {layer}
  layer {{ name: "noise" type: "DummyData" top: "noise"
          dummy_data_param {{ shape {{ dim: 4 }} data_filler {{ type: "gaussian" }} }} }}
  layer {{ name: "silence" type: "Silence" bottom: "data" bottom: "noise" }} }}
"""


@pytest.mark.parametrize("kind", LAYERS)
def test_solvers_with_one_seed_share_the_order_of_one_solver(kind, size=3):
    """The seed of a rank is random_seed + rank; the orders of shuffled records are those of rank 0."""
    layer = f'layer {{ name: "data" top: "data" top: "label" {LAYERS[kind].format(n=4)} }}'
    param = parse_text(SOLVER.format(layer=layer), caffe_pb2.SolverParameter())

    def work(group):
        solver = minicaffe.get_solver(param)
        seen = np.concatenate(labels(solver.net, 6 * (1 if group.size > 1 else size)))
        return seen, solver.net.blobs["noise"].data.copy()

    ((whole, noise),) = run_ranks(1, work)
    shares = run_ranks(size, work)
    np.testing.assert_array_equal(np.stack([seen for seen, _ in shares], axis=1).ravel(), whole)
    assert len({values.tobytes() for _, values in shares}) == size


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["lmdb", "shuffled", "images"])
def test_shares_on_the_gpu(kind, cuda_device):
    expected = labels(net(kind, 4, 1, 2), 5)
    minicaffe.set_mode_gpu()
    np.testing.assert_array_equal(labels(net(kind, 4, 1, 2), 5), expected)


def test_a_rank_below_the_count():
    minicaffe.set_solver_count(2)
    assert minicaffe.solver_count() == 2
    with pytest.raises(UsageError, match="expected 0 to 1, got 2"):
        minicaffe.set_solver_rank(2)
    with pytest.raises(UsageError, match="expected 1 or more, got 0"):
        minicaffe.set_solver_count(0)
