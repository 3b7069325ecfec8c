"""CIFAR-10 and MNIST from files of unknown origin: batches, pickles, archives, idx files."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.data.datasets import cifar10
from minicaffe.data.datasets.mnist import read_pair

_RECORDS = np.random.default_rng(0).integers(0, 10, (2, 3073), dtype=np.uint8)


def _read_all(source):
    read = cifar10.open_source(source)
    for name in cifar10.TRAIN_FILES + cifar10.TEST_FILES:
        read(name)


def _batches():
    return [_RECORDS.tobytes(), _RECORDS[:1].tobytes()]


def _cifar_folder(content):
    files = {f"cifar/{name}.bin": _RECORDS.tobytes() for name in cifar10.TRAIN_FILES + cifar10.TEST_FILES}
    return Case(files | {"cifar/data_batch_2.bin": content}, [["convert_cifar_data", "cifar", "out", "leveldb"]])


# -- pickles -----------------------------------------------------------------------------------------------------------


def _pickles():
    batch = {b"data": _RECORDS[:, 1:], b"labels": _RECORDS[:, 0].tolist(), b"filenames": [b"a.png", b"b.png"]}
    texts = {"data": _RECORDS[:, 1:], "labels": _RECORDS[:, 0], "batch_label": "one"}
    return [pickle.dumps(each, protocol) for each in (batch, texts) for protocol in (2, 3, 4)]


def _change_pickle(rng, content):
    """Change the instructions before the pixels and behind them, or insert others."""
    at = int(rng.integers(min(len(content), 200))) if rng.random() < 0.6 else max(len(content) - 150, 0)
    if rng.random() < 0.3:
        odd = [b"(", b"l", b"d", b"R", b"b", b"0", b"2", b"u", b"e", b"}", b"]", b"\x85", b"\x86", b"j\0\0\0\0"]
        odd += [b"cbuiltins\nprint\n", b"cnumpy\nndarray\n", b"I1%050d\n" % 0]
        odd += [b"r\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f"]
        return content[:at] + mutate.pick(rng, odd) * int(rng.choice([1, 2, 500])) + content[at:]
    return content[:at] + mutate.flip(rng, content[at : at + 150]) + content[at + 150 :]


def _pickle_folder(content):
    names = cifar10.TRAIN_FILES + cifar10.TEST_FILES
    return Case({f"cifar/{name}": content for name in names}, [lambda: _read_all("cifar")])


# -- archives ----------------------------------------------------------------------------------------------------------


def _archives():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for kind, name in ((tarfile.DIRTYPE, "cifar"), (tarfile.SYMTYPE, "cifar/link"), (tarfile.CHRTYPE, "cifar/dev")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for name in cifar10.TRAIN_FILES + cifar10.TEST_FILES:
            member = tarfile.TarInfo(f"cifar/{name}.bin")
            member.size = 3073
            tar.addfile(member, io.BytesIO(_RECORDS[0].tobytes()))
    return [file.getvalue(), gzip.compress(file.getvalue(), mtime=0)]


def _change_archive(rng, content):
    """Change headers, with correct checksums, or bytes, before or after compression."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.3:
        return mutate.flip(rng, content)
    data = bytearray(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    at = 512 * int(rng.integers(len(data) // 512))
    begin, length = mutate.pick(rng, [(0, 100), (100, 8), (124, 12), (124, 12), (156, 1), (157, 100), (257, 8)])
    odd = [b"%011o\0" % abs(value) for value in mutate.INTEGERS] + [
        b"-1",
        b"\x80" + bytes(11),
        b"\xff" * 12,
        b"L",
        b"x",
        b"S",
    ]
    field = (
        mutate.pick(rng, odd) if rng.random() < 0.7 else mutate.flip(rng, bytes(data[at + begin : at + begin + length]))
    )
    data[at + begin : at + begin + length] = field[:length].ljust(length, b"\0")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    if rng.random() < 0.3:
        data = mutate.flip(rng, bytes(data))
    return bytes(data) if content[:2] != b"\x1f\x8b" else gzip.compress(bytes(data), 1, mtime=0)


# -- MNIST -------------------------------------------------------------------------------------------------------------


def _idx():
    plain = struct.pack(">4I", 0x803, 2, 4, 3) + bytes(range(24))
    return [plain, gzip.compress(plain, mtime=0)]


def _change_idx(rng, content):
    if rng.random() < 0.5:
        return mutate.flip(rng, content)
    data = bytearray(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    at = 4 * int(rng.integers(1, 4))
    data[at : at + 4] = (mutate.pick(rng, mutate.INTEGERS) & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data) if content[:2] != b"\x1f\x8b" else gzip.compress(bytes(data), mtime=0)


def _mnist(content):
    labels = struct.pack(">2I", 0x801, 2) + b"\3\4"
    convert = ["convert_mnist_data", "images", "labels", "out", "--backend", "leveldb"]
    return Case({"images": content, "labels": labels}, [lambda: read_pair("images", "labels"), convert])


cifar_batch = Kind("cifar_batch", _batches, _cifar_folder)
cifar_pickle = Kind("cifar_pickle", _pickles, _pickle_folder, _change_pickle)
cifar_archive = Kind(
    "cifar_archive", _archives, lambda content: Case({"c.tar": content}, [lambda: _read_all("c.tar")]), _change_archive
)
mnist_idx = Kind("mnist_idx", _idx, _mnist, _change_idx)
