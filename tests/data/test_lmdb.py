"""The reader of LMDB pages: equal to the lmdb package on its databases, and damaged ones are refused."""

import os
import struct
from bisect import bisect_right

import lmdb
import numpy as np
import pytest

from minicaffe.data.db import open_db
from minicaffe.data.lmdb_pages import _META, _NODE
from minicaffe.errors import DataError

PAGE = 4096


def created(path, **options):
    return lmdb.open(str(path), map_size=1 << 28, lock=False, sync=False, **options)


def random_bytes(rng, shortest, longest):
    """Short ones mostly, and some that are as long as possible."""
    length = int(shortest + (longest - shortest) * rng.random() ** rng.choice([1, 3, 8]))
    return rng.bytes(length)


def changed(rng, environment, kept):
    """Put, replace and delete some records in one transaction; `kept` is what must be there afterwards."""
    longest = int(rng.choice([0, 10, 200, 3000, 20000]))
    with environment.begin(write=True) as transaction:
        for _ in range(int(rng.integers(1, 300))):
            if kept and rng.random() < 0.3:
                key = list(kept)[int(rng.integers(len(kept)))]
            else:
                key = random_bytes(rng, 1, int(rng.choice([2, 12, 511])))
            if kept and rng.random() < 0.3:
                transaction.delete(key)
                kept.pop(key, None)
            else:
                kept[key] = random_bytes(rng, 0, longest)
                transaction.put(key, kept[key])


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(tmp_path, seed):
    rng, kept = np.random.default_rng(seed), {}
    with created(tmp_path / "db") as environment:
        for _ in range(int(rng.integers(1, 12))):
            changed(rng, environment, kept)
            with environment.begin() as transaction:
                expected = list(transaction.cursor())
            with open_db(tmp_path / "db") as database:
                assert expected == sorted(kept.items())
                compare(rng, database, expected)


def compare(rng, database, expected):
    keys = [key for key, _ in expected]
    assert len(database) == len(expected) and database.keys() == keys
    assert [(key, bytes(value)) for key, value in database.items()] == expected
    for after in [b"", b"\xff" * 600, *(random_bytes(rng, 1, 4) for _ in range(5)), *keys[:: len(keys) // 5 + 1]]:
        assert [(key, bytes(value)) for key, value in database.items(after)] == expected[bisect_right(keys, after) :]
        if after not in keys:
            with pytest.raises(DataError, match="has no record"):
                database.get(after)
    assert all(database.get(key) == value for key, value in expected[::7])


def test_many_records(tmp_path):
    with created(tmp_path / "db") as environment, environment.begin(write=True) as transaction:
        for number in range(100_000):
            transaction.put(b"%d" % number, b"%d" % (number * number))
        transaction.delete(b"77")
    with open_db(tmp_path / "db") as database:
        assert len(database) == 99_999
        assert database.keys() == sorted(b"%d" % number for number in range(100_000) if number != 77)
        assert all(int(value) == int(key) ** 2 for key, value in database.items())
        assert all(database.get(b"%d" % number) == b"%d" % number**2 for number in range(78, 100_000, 997))


def test_last_pages_that_were_never_written(tmp_path):
    """The library allocates pages at the end of the file and does not write those that the same transaction frees."""
    kept = {}
    with created(tmp_path / "db") as environment:
        for count, size, deleted in ((361, 500, range(65)), (54, 10, [53]), (258, 9000, range(257, 175, -1))):
            with environment.begin(write=True) as transaction:
                for number in range(count):
                    kept[b"%05d" % number] = bytes([number % 256]) * size
                    transaction.put(b"%05d" % number, kept[b"%05d" % number])
                for number in deleted:
                    del kept[b"%05d" % number]
                    transaction.delete(b"%05d" % number)
    path = tmp_path / "db" / "data.mdb"
    content = path.read_bytes()
    assert len(content) < (_META.unpack_from(content, newest(content))[-2] + 1) * PAGE
    assert read_all(path) == sorted(kept.items())
    os.truncate(path, len(content) - 3 * PAGE)
    with pytest.raises(DataError, match="LMDB .*db is truncated: data.mdb has [0-9]+ bytes, expected at least"):
        open_db(tmp_path / "db")


def test_all_records_are_deleted(tmp_path):
    with created(tmp_path / "db") as environment:
        for write in (lambda t: t.put(b"a", b"1"), lambda t: t.delete(b"a")):
            with environment.begin(write=True) as transaction:
                write(transaction)
    with open_db(tmp_path / "db") as database:
        assert len(database) == 0 and database.keys() == [] == list(database.items())
        with pytest.raises(DataError, match="has no record 'a'"):
            database.get(b"a")


def test_records_that_are_added_while_the_database_is_open(tmp_path):
    with created(tmp_path / "db") as environment, open_db(tmp_path / "db") as database:
        for number in range(5):
            with environment.begin(write=True) as transaction:
                transaction.put(b"%d" % number, b"v")
            assert [key for key, _ in database.items()] == [b"%d" % n for n in range(number + 1)]
            assert database.get(b"%d" % number) == b"v"


def test_named_databases_are_not_supported(tmp_path):
    with created(tmp_path / "db", max_dbs=2) as environment:
        with environment.begin(write=True, db=environment.open_db(b"inner")) as transaction:
            transaction.put(b"a", b"1")
    with open_db(tmp_path / "db") as database:
        with pytest.raises(DataError, match="LMDB .*db holds named databases or duplicate keys, which are not"):
            list(database.items())


# -- damaged files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    """40 small records and 10 large ones in two leaves under one branch page; the records and the path of the file."""
    records = {b"%04d" % n: bytes([n]) * (5000 if n % 5 == 0 else 100) for n in range(50)}
    with open_db(tmp_path / "db", "lmdb", "w") as writer:
        for key, value in records.items():
            writer.put(key, value)
    return records, tmp_path / "db" / "data.mdb"


def pages_of(content, kind):
    """Numbers of the pages with a flag: 1 branch, 2 leaf, 4 overflow."""
    return [n for n in range(2, len(content) // PAGE) if content[n * PAGE + 10] == kind]


def read_all(path):
    with open_db(path.parent) as database:
        values = [(key, bytes(value)) for key, value in database.items()]
        assert [key for key, _ in values] == database.keys()
        for key, value in values:
            assert database.get(key) == value
    return values


def patch(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def newest(content):
    """Offset of the meta page in use."""
    return PAGE if _META.unpack_from(content, PAGE)[-1] > _META.unpack_from(content)[-1] else 0


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (20, struct.pack("<I", 999), "has version 999 of the format, expected 1"),
        (40, struct.pack("<I", 1 << 20), "damaged: its meta page states pages of 1048576 bytes"),
        (40, struct.pack("<I", 4095), "damaged: its meta page states pages of 4095 bytes"),
        (88 + 4, b"\x04", "has duplicate keys or another order of keys, which is not supported"),
        (88 + 4, b"\x02", "has duplicate keys or another order of keys, which is not supported"),
        (88 + 6, struct.pack("<H", 60000), "damaged: its tree has 60000 levels, expected 1 to 32"),
        (88 + 6, struct.pack("<H", 1), "damaged: page [0-9]+ is no leaf page"),
        (88 + 6, struct.pack("<H", 3), "damaged: page [0-9]+ is no branch page"),
        (88 + 16, struct.pack("<Q", 1 << 60), "damaged: 1152921504606846976 of its [0-9]+ pages hold 50 records"),
        (88 + 32, struct.pack("<Q", 0), "damaged: 2 of its [0-9]+ pages hold 0 records"),
        (88 + 32, struct.pack("<Q", 1 << 40), "damaged: 2 of its [0-9]+ pages hold 1099511627776 records"),
        (88 + 32, struct.pack("<Q", 51), "damaged: it holds 50 records, but states 51"),
        (88 + 32, struct.pack("<Q", 49), "damaged: page .* holds more records than the 49 stated"),
        (88 + 40, struct.pack("<Q", 1 << 50), "damaged: it refers to page 1125899906842624, expected 2 to"),
        (88 + 40, struct.pack("<Q", 1), "damaged: it refers to page 1, expected 2 to"),
        (136, struct.pack("<Q", 9), "damaged: it refers to page [0-9]+, expected 2 to 9"),
    ],
)
def test_damaged_meta_page(database, offset, data, message):
    _, path = database
    patch(path, newest(path.read_bytes()) + offset, data)
    with pytest.raises(DataError, match=f"LMDB .*db (is |){message}"):
        read_all(path)


def node_of(content, page, index):
    return page * PAGE + struct.unpack_from("<H", content, page * PAGE + 16 + 2 * index)[0]


@pytest.mark.parametrize("what", ["number", "lower", "upper", "position", "same", "kind", "key", "value", "overflow"])
def test_damaged_leaf(database, what):
    _, path = database
    content = path.read_bytes()
    leaf = pages_of(content, 2)[-1]
    start, node = leaf * PAGE, node_of(content, leaf, 1)
    big = next(n for n in (node_of(content, leaf, i) for i in range(9)) if content[n + 4] == 1)
    offset, data, message = {
        "number": (start, b"\xff", f"page {leaf} is no leaf page"),
        "lower": (start + 12, b"\xff\xff", f"page {leaf} states free space from 65535"),
        "upper": (start + 14, b"\xff\xff", f"page {leaf} states free space from"),
        "position": (start + 16, b"\xfe\x0f", f"page {leaf} has nodes outside of it"),
        "same": (start + 18, content[start + 16 : start + 18], f"page {leaf} has nodes that overlap or are out of"),
        "kind": (node + 4, b"\x20", f"page {leaf} has a node of unknown kind 0x20"),
        "key": (node + 6, b"\xff\xff", f"page {leaf} has a node that ends outside of it"),
        "value": (node, b"\xff\xff\xff", f"page {leaf} has a node that ends outside of it"),
        "overflow": (big + 12, b"\xff\xff", "it refers to page 65535, expected 2 to"),
    }[what]
    patch(path, offset, data)
    with pytest.raises(DataError, match=f"LMDB .*db is damaged: {message}"):
        read_all(path)


def test_value_larger_than_the_file(database):
    _, path = database
    content = path.read_bytes()
    leaf = pages_of(content, 2)[0]
    big = next(n for n in (node_of(content, leaf, i) for i in range(9)) if content[n + 4] == 1)
    patch(path, big, struct.pack("<I", 2**32 - 1))
    with pytest.raises(DataError, match="a value of 4294967295 bytes begins in page [0-9]+, close to its end"):
        read_all(path)
    patch(path, big, struct.pack("<I", 9000))
    with pytest.raises(DataError, match="page [0-9]+ does not hold a value of 9000 bytes"):
        read_all(path)


def test_pages_that_contain_themselves(database):
    """A tree of 30 levels in which each branch page has itself as every child does not take 2^30 steps."""
    _, path = database
    content = path.read_bytes()
    (branch,) = pages_of(content, 1)
    patch(path, newest(content) + 88 + 6, struct.pack("<H", 30))
    for index in range(2):
        low, _, length = _NODE.unpack_from(content, node_of(content, branch, index))
        patch(path, node_of(content, branch, index), _NODE.pack(branch, 0, length))
    with pytest.raises(
        DataError, match=r"is damaged: (pages of its tree occur more than once|page .* is no leaf page)"
    ):
        read_all(path)


def test_truncated_while_it_is_read(database):
    records, path = database
    with open_db(path.parent) as reader:
        items = reader.items()
        next(items)
        os.truncate(path, 2 * PAGE)
        with pytest.raises(DataError, match="data.mdb is truncated: it ends before byte"):
            list(items)
        assert len(records) == 50


def test_flipped_bits(database):
    """Every answer is a sentence or the right number of records."""
    _, path = database
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        page = int(rng.choice([0, 1, *pages_of(content, 1), *pages_of(content, 2)]))
        damaged = bytearray(content)
        damaged[page * PAGE + int(rng.integers(PAGE))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert len(read_all(path)) in (0, 50)
        except DataError:
            pass


def test_not_a_regular_file(tmp_path):
    (tmp_path / "db").mkdir()
    os.mkfifo(tmp_path / "db" / "data.mdb")
    with pytest.raises(DataError, match="cannot read LMDB .*db: it is a FIFO, expected a regular file"):
        open_db(tmp_path / "db")
