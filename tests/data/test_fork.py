"""A forked process continues reading from its parent's position, and so does the parent."""

import os
import signal

import h5py
import numpy as np
import pytest
from PIL import Image

from helpers.annotated import TRAINING, random_records, write_records
from helpers.nets import net_from_text
from helpers.readers import write_images
from minicaffe.data import open_db
from minicaffe.data.prefetch import Prefetcher

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
_LONG = 120  # seconds after which a child that hangs is ended

WINDOWS = """# 0
0.png
3
10
12
3
1 0.9 0 0 5 5
0 0.1 2 2 8 8
2 0.7 1 1 9 7
"""

LAYERS = {
    "lmdb": """type: "Data" transform_param { crop_size: 4 mirror: true }
        data_param { source: "lmdb" batch_size: 7 backend: LMDB }""",
    "leveldb": 'type: "Data" data_param { source: "leveldb" batch_size: 7 backend: LEVELDB }',
    "annotated": TRAINING,
    "images": 'type: "ImageData" image_data_param { source: "images.txt" batch_size: 3 shuffle: true }',
    "maps": """type: "DenseImageData"
        dense_image_data_param { source: "maps.txt" batch_size: 3 shuffle: true mirror: true }""",
    "windows": """type: "WindowData" transform_param { crop_size: 6 }
        window_data_param { source: "windows.txt" batch_size: 4 fg_fraction: 0.5 }""",
    "hdf5": 'type: "HDF5Data" hdf5_data_param { source: "hdf5.txt" batch_size: 3 shuffle: true }',
}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for backend in ("lmdb", "leveldb"):
        write_images(backend, rng.integers(0, 256, (40, 3, 6, 6), np.uint8), labels=4, backend=backend)
    write_records("annotated", random_records(7))
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(f"{i}.png")
    (tmp_path / "images.txt").write_text("".join(f"{i}.png {i}\n" for i in range(5)))
    (tmp_path / "maps.txt").write_text("".join(f"{i}.png {i}.png\n" for i in range(5)))
    (tmp_path / "windows.txt").write_text(WINDOWS)
    with h5py.File("h.h5", "w") as file:
        file["data"], file["label"] = rng.random((20, 3, 4, 4)), np.arange(20.0)
    (tmp_path / "hdf5.txt").write_text("h.h5\n")


def build(kind):
    text = f'layer {{ name: "d" {LAYERS[kind]} top: "data" top: "label" }}'
    return net_from_text(text, 0)


def batches(net, count):
    result = []
    for _ in range(count):
        net.forward()
        result += [net.blobs[name].data.copy() for name in ("data", "label")]
    return result


def in_child(work, path):
    """What `work()`, which returns a list of arrays, returns in a forked child."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LONG)
        try:
            np.savez(path, *work())
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    with np.load(path) as saved:
        return [saved[f"arr_{i}"] for i in range(len(saved))]


@pytest.mark.parametrize("used", [0, 2])
@pytest.mark.parametrize("kind", list(LAYERS))
def test_parent_and_child_read_on(sources, kind, used):
    net = build(kind)
    batches(net, used)
    in_child_of_child = in_child(lambda: in_child(lambda: batches(net, 8), "grandchild.npz"), "child.npz")
    children = in_child(lambda: batches(net, 8), "other.npz")
    own = batches(net, 8)
    for a, b, c in zip(own, children, in_child_of_child, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_an_iteration_goes_on_in_both(sources, backend):
    database, other = open_db(backend, backend), open_db(backend, backend)
    items, others = database.items(), other.items()
    next(items), next(others)

    def rest():
        keys = [int(key) for key, _ in others]  # opens the file again; the first iteration must use the new one
        return [np.array(keys), np.array([int(key) for key, _ in items]), np.array([len(list(database.items()))])]

    expected = list(range(1, 40))
    for keys, same, count in (in_child(rest, "keys.npz"), rest()):
        assert list(keys) == list(same) == expected and count == [40]


def test_a_prefetcher_that_was_left_behind_says_so(tmp_path):
    prefetcher = Prefetcher(lambda: 1)
    assert prefetcher.get() == 1 and not prefetcher.left_behind

    def child():
        with pytest.raises(RuntimeError, match="forked"):
            prefetcher.get()
        prefetcher.close()
        return [np.array(prefetcher.left_behind)]

    assert in_child(child, tmp_path / "child.npz")[0]
    assert prefetcher.get() == 1
    prefetcher.close()


def test_forks_while_the_thread_reads(sources):
    """Fork at various moments while the prefetch thread is running."""
    net = build("lmdb")
    for _ in range(20):
        net.layers[0].close()
        batches(net, 1)
        in_child(lambda: batches(net, 2), "child.npz")
