"""Batches of CIFAR-10's python version, which are pickles."""

import pickle

import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from minicaffe.data.datasets.cifar10 import parse_pickle

#: Operations that real batches do not have, or have elsewhere; with arguments where they need some.
_OPERATIONS = [b"R", b"b", b"\x85", b"\x86", b"\x87", b")", b"(", b"t", b"u", b"a", b"e", b"]", b"}", b"0", b"2", b"N",
               b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"h\x01", b"q\x01",
               b"r\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"\x8a\xff" + b"\x7f" * 255, b"\x8e" + b"\xff" * 8, b"\x8f",
               b"\x81", b"P1\n", b"Q", b"U\x02O8", b"X\x02\0\0\0O8"]  # fmt: skip


def _examples():
    rng = np.random.default_rng(0)
    batch = {b"data": rng.integers(0, 256, (1, 3072), np.uint8), b"labels": [7], b"batch_label": b"one"}
    arrays = {**batch, b"labels": np.array([7])}
    return [pickle.dumps(each, protocol) for each in (batch, arrays) for protocol in (2, 4)]


def _change(rng, content):
    """Change the operations rather than the 3072 bytes of the image."""
    if rng.random() < 0.3:
        return mutate.flip(rng, content)
    ends = [content[:300], content[300:-300], content[-300:]]
    for _ in range(int(rng.integers(1, 4))):
        part = 2 * int(rng.integers(2))
        if rng.random() < 0.5:
            ends[part] = mutate.flip(rng, ends[part])
        else:
            at = int(rng.integers(len(ends[part]) + 1))
            ends[part] = ends[part][:at] + mutate.pick(rng, _OPERATIONS) + ends[part][at:]
    return b"".join(ends)


def _case(content):
    return Case({}, [lambda: parse_pickle(content, "data_batch_1")])


pickled = Kind("pickled", _examples, _case, _change)
