"""CIFAR-10 and MNIST from all their file formats, interrupted downloads, and the synthetic data set."""

import gzip
import hashlib
import http.server
import pickle
import struct
import tarfile
import threading

import numpy as np
import pytest

from minicaffe.data.datasets import cifar10, mnist, synthetic
from minicaffe.data.datasets.download import download
from minicaffe.data.datasets.records import describe
from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import open_db
from minicaffe.data.mean import read_mean
from minicaffe.errors import DataError

PER_BATCH = 20


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, PER_BATCH, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 10, (6, PER_BATCH), dtype=np.uint8)


@pytest.fixture
def binary(tmp_path, images, labels):
    """Write the official binary version, with fewer records."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, x, y in zip(cifar10.TRAIN_FILES + cifar10.TEST_FILES, images, labels, strict=True):
        records = np.concatenate([y[:, None], x.reshape(PER_BATCH, -1)], 1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


@pytest.fixture
def pickled(tmp_path, images, labels):
    """Write the official python version, with fewer records."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, x, y in zip(cifar10.TRAIN_FILES + cifar10.TEST_FILES, images, labels, strict=True):
        batch = {b"data": x.reshape(PER_BATCH, -1), b"labels": y.tolist(), b"batch_label": b"text"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def records_of(path, backend="lmdb"):
    with open_db(path, backend) as database:
        decoder = DatumDecoder(path)
        items = [(key, *decoder.decode(key, value)) for key, value in database.items()]
        return [key for key, _, _ in items], np.stack([x.copy() for _, x, _ in items]), [y for _, _, y in items]


def check(dest, images, labels, backend="lmdb"):
    keys, x, y = records_of(dest / f"cifar10_train_{backend}", backend)
    assert keys[0] == b"00000" and keys[-1] == b"00099"
    assert np.array_equal(x, images[:5].reshape(-1, 3, 32, 32)) and y == labels[:5].ravel().tolist()
    _, x, y = records_of(dest / f"cifar10_test_{backend}", backend)
    assert np.array_equal(x, images[5]) and y == labels[5].tolist()


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_cifar10_from_the_binary_version(tmp_path, binary, images, labels, backend):
    cifar10.prepare(tmp_path / "out", binary, backend)
    check(tmp_path / "out", images, labels, backend)
    mean = read_mean(tmp_path / "out" / "mean.binaryproto")
    assert np.allclose(mean, images[:5].reshape(-1, 3, 32, 32).mean(0), atol=1e-4)
    assert describe(tmp_path / "out") == cifar10.ABOUT


def test_cifar10_from_the_python_version(tmp_path, pickled, images, labels):
    cifar10.prepare(tmp_path / "out", pickled)
    check(tmp_path / "out", images, labels)


@pytest.mark.parametrize("version", ["binary", "pickled"])
def test_cifar10_from_an_archive(tmp_path, version, images, labels, request):
    folder = request.getfixturevalue(version)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    cifar10.prepare(tmp_path / "out", tmp_path / "cifar.tar.gz")
    check(tmp_path / "out", images, labels)


def test_other_members_of_an_archive_are_skipped(tmp_path, binary, images, labels):
    with tarfile.open(tmp_path / "cifar.tar", "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "data_batch_1.bin"), (tarfile.CHRTYPE, "test_batch.bin")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/dev/zero"
            tar.addfile(member)
        tar.add(binary / "test_batch.bin", arcname="../../" + "long" * 40 + "/other.bin")
        tar.add(binary, arcname="../../out")
    cifar10.prepare(tmp_path / "out", tmp_path / "cifar.tar")
    check(tmp_path / "out", images, labels)


@pytest.mark.parametrize("change, sentence", [
    (lambda data: gzip.compress(bytes(1 << 29), 1), "it holds more than 268435456 bytes, and CIFAR-10 less"),
    (lambda data: data[:5000], "it ends after 5000 bytes, inside a file"),
    (lambda data: b"x" + data[1:], "it is damaged, or another kind of file"),
    (lambda data: gzip.compress(data)[:-3000], "Compressed file ended before the end-of-stream marker was reached"),
    (lambda data: b"", "it is empty"),
])  # fmt: skip
def test_damaged_archives(tmp_path, binary, change, sentence):
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        tar.add(binary / "data_batch_1.bin", arcname="data_batch_1.bin")
    (tmp_path / "c.tar").write_bytes(change((tmp_path / "c.tar").read_bytes()))
    with pytest.raises(DataError, match=f"cannot read .*c.tar as a tar archive: {sentence}"):
        cifar10.open_source(tmp_path / "c.tar")


PIXELS = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("batch", [
    {b"data": PIXELS, b"labels": [3, 4], b"filenames": [b"a", b"b"], b"more": (1, (2.5, None), {"x": True})},
    {"data": np.asfortranarray(PIXELS), "labels": np.array([3, 4], ">i4"), "again": np.array([3, 4], ">i4")},
])  # fmt: skip
def test_pickles(protocol, batch):
    pixels, labels = cifar10.parse_pickle(pickle.dumps(batch, protocol), "batch")
    assert np.array_equal(pixels.reshape(2, 3072), PIXELS) and labels.tolist() == [3, 4]


@pytest.mark.parametrize("content, sentence", [
    (pickle.dumps({b"data": PIXELS, b"labels": [3]}), r"its data have shape \(2, 3072\), and its labels \(1,\)"),
    (pickle.dumps({b"data": PIXELS, b"labels": [3.5, 1]}), "expected data, an array of bytes, and labels"),
    (pickle.dumps({b"data": PIXELS.astype(float), b"labels": [3, 1]}), "its numbers are of type 'f8', expected whole"),
    (pickle.dumps([1, 2]), "it holds no dictionary"),
    (pickle.dumps({b"data": PIXELS})[:-1], "pickle exhausted before seeing STOP"),
    (pickle.dumps({b"data": PIXELS})[:300], "only .* remain"),
    (pickle.dumps({(1, 2): 3}), "expected data, an array of bytes, and labels"),
    (b"", "pickle exhausted before seeing STOP"),
    (b"cnumpy\nndarray\n(I9999999999\ntR.", "it holds no dictionary"),
    (b"cos\nsystem\n(S'true'\ntR.", "it refers to os.system"),
    (b"ccopyreg\n_reconstructor\n.", "it refers to copyreg._reconstructor"),
    (b"tttt.", "could not find MARK"),
])  # fmt: skip
def test_pickles_that_are_refused(content, sentence):
    with pytest.raises(DataError, match=f"batch is no batch of CIFAR-10's python version: .*({sentence})"):
        cifar10.parse_pickle(content, "batch")


def test_preparing_again_replaces_what_is_there(tmp_path, binary, images, labels):
    synthetic.prepare(tmp_path / "out", train=30, test=10)
    assert describe(tmp_path / "out") == synthetic.ABOUT
    for _ in range(2):
        cifar10.prepare(tmp_path / "out", binary)
        check(tmp_path / "out", images, labels)
    with pytest.raises(DataError, match="out holds the real CIFAR-10: choose another --dest"):
        synthetic.prepare(tmp_path / "out", train=30, test=10)


def test_a_source_that_breaks_leaves_the_old_data(tmp_path, binary, images, labels):
    cifar10.prepare(tmp_path / "out", binary)
    (binary / "data_batch_4.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match="data_batch_4.bin in .* has 3072 bytes, expected a multiple of 3073"):
        cifar10.prepare(tmp_path / "out", binary)
    check(tmp_path / "out", images, labels)


def test_sources_that_are_not_cifar10(tmp_path, binary, pickled):
    with pytest.raises(DataError, match="CIFAR-10 source .*none does not exist"):
        cifar10.prepare(tmp_path / "out", tmp_path / "none")
    (tmp_path / "bad.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"cannot read .*bad.tar.gz as a tar archive: [^\n]+$"):
        cifar10.prepare(tmp_path / "out", tmp_path / "bad.tar.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds neither data_batch_1.bin \(binary version\) nor data_batch_1"):
        cifar10.prepare(tmp_path / "out", tmp_path / "empty")
    (binary / "data_batch_1.bin").write_bytes(bytes([11]) * 3073)
    with pytest.raises(DataError, match="holds label 11, expected 0 to 9"):
        cifar10.prepare(tmp_path / "out", binary)
    (pickled / "data_batch_1").write_bytes(pickle.dumps({b"data": pathlike_bomb()}))
    with pytest.raises(DataError, match="python version: it refers to builtins.print"):
        cifar10.prepare(tmp_path / "out", pickled)


class pathlike_bomb:
    """Return a pickle that would run code when loaded."""

    def __reduce__(self):
        return print, ("boom",)


# -- downloads ---------------------------------------------------------------------------------------------------------

CONTENT = np.random.default_rng(2).bytes(500_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `breaks` connections end early; `ranges`: whether it serves parts of the file."""

    breaks, ranges, asked = 0, True, []

    def do_GET(self):
        if self.path != "/file.bin":
            self.send_error(404)
            return
        given = self.headers.get("Range")
        type(self).asked.append(given)
        start = int(given[6:-1]) if given and self.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT)
        if type(self).breaks:
            type(self).breaks -= 1
            stop = start + 150_000
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Server.breaks, Server.ranges, Server.asked = 0, True, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/file.bin"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_checked_and_not_repeated(tmp_path, url):
    for _ in range(2):
        download(url, tmp_path / "file", MD5)
        assert (tmp_path / "file").read_bytes() == CONTENT
    assert Server.asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_broken_download_goes_on_where_it_stopped(tmp_path, url):
    Server.breaks = 2
    download(url, tmp_path / "file", MD5, pause=0)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=150000-", "bytes=300000-"]


def test_a_later_run_goes_on_too(tmp_path, url):
    Server.breaks = 1
    with pytest.raises(DataError, match="ended after 150000 of 500000 bytes; 150000 bytes are kept in .*file.part"):
        download(url, tmp_path / "file", MD5, tries=1)
    assert not (tmp_path / "file").exists()
    download(url, tmp_path / "file", MD5)
    assert Server.asked == [None, "bytes=150000-"] and (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(tmp_path, url):
    Server.breaks, Server.ranges = 1, False
    download(url, tmp_path / "file", MD5, pause=0)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_wrong_file_and_a_missing_one(tmp_path, url):
    with pytest.raises(DataError, match=f"is not the expected file: its md5 is {MD5}, expected 0123"):
        download(url, tmp_path / "file", "0123")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="cannot download .*other: HTTP Error 404"):
        download(url.replace("file.bin", "other"), tmp_path / "file", MD5)


# -- MNIST -------------------------------------------------------------------------------------------------------------


def write_idx(path, array, magic, opener=open):
    with opener(path, "wb") as file:
        file.write(struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes())


@pytest.fixture
def digits(tmp_path):
    rng = np.random.default_rng(3)
    folder = tmp_path / "idx"
    folder.mkdir()
    for (images, labels), count, opener in zip(mnist.FILES.values(), (30, 7), (open, gzip.open), strict=True):
        suffix = ".gz" if opener is gzip.open else ""
        write_idx(folder / (images + suffix), rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), 0x803, opener)
        write_idx(folder / (labels + suffix), rng.integers(0, 10, count, dtype=np.uint8), 0x801, opener)
    return folder


def test_mnist_plain_and_gzipped(tmp_path, digits):
    mnist.prepare(tmp_path / "out", digits)
    keys, x, y = records_of(tmp_path / "out" / "mnist_train_lmdb")
    images, labels = mnist.read_pair(*(str(digits / name) for name in mnist.FILES["train"]))
    assert keys[29] == b"00000029" and x.shape == (30, 1, 28, 28)
    assert np.array_equal(x, images) and y == labels.tolist()
    assert len(records_of(tmp_path / "out" / "mnist_test_lmdb")[0]) == 7


def test_mnist_files_that_do_not_go_together(digits):
    images, labels = (str(digits / name) for name in mnist.FILES["train"])
    with pytest.raises(DataError, match="has magic number 0x801, expected 0x803 for an idx file of 3 axes"):
        mnist.read_pair(labels, labels)
    write_idx(labels, np.zeros(29, np.uint8), 0x801)
    with pytest.raises(DataError, match="holds 30 images, but .* 29 labels"):
        mnist.read_pair(images, labels)
    with open(images, "ab") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="holds 984 values, expected 30x28x28"):
        mnist.read_idx(images, 3)
    with pytest.raises(DataError, match="cannot read .*none: No such file"):
        mnist.read_idx(str(digits / "none"), 3)


@pytest.mark.parametrize("shape, values, sentence", [
    ((3, 2**31, 2**31), 12, "x, .* bytes, cannot hold 3x2147483648x2147483648 values"),
    ((30000, 200, 200), 1, "x, .* bytes, cannot hold 30000x200x200 values"),
    ((1, 2, 2), 1 << 20, "x holds more values, expected 1x2x2"),
    ((1, 2, 2), 3, "x holds 3 values, expected 1x2x2"),
])  # fmt: skip
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_of_wrong_sizes(tmp_path, pack, shape, values, sentence):
    (tmp_path / "x").write_bytes(pack(struct.pack(">4I", 0x803, *shape) + bytes(values)))
    with pytest.raises(DataError, match=sentence):
        mnist.read_idx(str(tmp_path / "x"), 3)


# -- synthetic ---------------------------------------------------------------------------------------------------------


def all_of(count, seed):
    parts = list(synthetic.batches(count, seed))
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def test_the_same_seed_draws_the_same_pictures():
    x, y = all_of(40, 5)
    assert x.shape == (40, 3, 32, 32) and x.dtype == np.uint8 and np.bincount(y).tolist() == [4] * 10
    assert np.array_equal(all_of(40, 5)[0], x) and not np.array_equal(all_of(40, 6)[0], x)


def test_a_linear_classifier_finds_next_to_nothing():
    x, y = all_of(2000, 1)
    test_x, test_y = all_of(1000, 2)
    a, b = (p[:, :, ::2, ::2].reshape(len(p), -1) / np.float32(255) - np.float32(0.5) for p in (x, test_x))
    best = 0.0
    for weight in (10, 100, 1000):  # ridge regression on the ten classes
        scores = b @ np.linalg.solve(a.T @ a + weight * np.eye(a.shape[1]), a.T @ np.eye(10)[y])
        best = max(best, float((scores.argmax(1) == test_y).mean()))
    assert best < 0.2  # chance is 0.1


def test_shapes_cover_a_fair_part_of_their_square():
    v, u = np.mgrid[-1.2:1.2:97j, -1.2:1.2:97j][:, None]
    for name, shape in synthetic.SHAPES.items():
        inside = shape(u, v) < 0
        assert 0.1 < inside.mean() < 0.5, name
        assert not inside[:, 0].any() and not inside[..., 0].any(), f"{name} reaches the border"
