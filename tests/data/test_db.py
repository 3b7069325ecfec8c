"""Both databases through one interface: what is written is read, in order, from any position, again and again."""

import logging
import os
import struct

import pytest

from minicaffe.data.db import Cursor, open_db
from minicaffe.errors import DataError

RECORDS = [(b"%05d" % i, bytes([i % 256]) * (i % 50 + 1)) for i in range(2500)]


def write(path, backend, records=RECORDS):
    with open_db(path, backend, "w") as database:
        for key, value in records:
            database.put(key, value)
    return path


def read(path, backend, after=None):
    with open_db(path, backend) as database:
        return [(key, bytes(value)) for key, value in database.items(after)]


@pytest.fixture(params=["lmdb", "leveldb"])
def backend(request):
    return request.param


def test_records_come_back_in_the_order_of_their_keys(tmp_path, backend):
    shuffled = RECORDS[1::2] + RECORDS[::2]
    assert read(write(tmp_path / "db", backend, shuffled), backend) == RECORDS
    with open_db(tmp_path / "db", backend) as database:
        assert len(database) == len(RECORDS)


def test_a_key_written_twice_holds_the_last_value(tmp_path, backend):
    path = write(tmp_path / "db", backend, [*RECORDS, (b"00007", b"new")])
    assert dict(read(path, backend)) == {**dict(RECORDS), b"00007": b"new"}


def test_reading_starts_after_any_key_there_or_not(tmp_path, backend):
    path = write(tmp_path / "db", backend, RECORDS[::2])
    assert read(path, backend, b"01000") == RECORDS[1002::2]
    assert read(path, backend, b"01001") == RECORDS[1002::2]
    assert read(path, backend, b"99999") == []


def test_records_by_their_keys(tmp_path, backend):
    with open_db(write(tmp_path / "db", backend, RECORDS[::2]), backend) as database:
        assert database.keys() == [key for key, _ in RECORDS[::2]]
        for key, value in RECORDS[-2::-200]:
            assert database.get(key) == value and isinstance(database.get(key), bytes)
        for key in (b"00001", b"99999", b"0"):
            with pytest.raises(DataError, match=f"db has no record '{key.decode()}'"):
                database.get(key)


def test_a_closed_database_takes_and_gives_no_records(tmp_path, backend):
    writer = open_db(tmp_path / "db", backend, "w")
    writer.put(*RECORDS[0])
    writer.close()
    with pytest.raises(DataError, match="db: it is closed"):
        writer.put(*RECORDS[1])
    reader = open_db(tmp_path / "db", backend)
    assert list(reader.items()) == RECORDS[:1]
    reader.close()
    for read_one in (reader.keys, lambda: reader.get(RECORDS[0][0]), lambda: next(reader.items())):
        with pytest.raises(DataError, match="db: it is closed"):
            read_one()


def test_keys_that_an_lmdb_cannot_hold(tmp_path):
    write(tmp_path / "most", "lmdb", [(b"k" * 511, b"v")])
    for key in (b"k" * 512, b""):
        with pytest.raises(DataError, match=f"its keys have 1 to 511 bytes, but '.*' has {len(key)}"):
            write(tmp_path / "db", "lmdb", [(b"a", b"v"), (key, b"v")])
    assert [path.name for path in tmp_path.iterdir()] == ["most"]
    long = [(b"k" * 600, b"v")]
    assert read(write(tmp_path / "any", "leveldb", long), "leveldb") == long


def test_a_key_may_be_a_path_in_any_encoding(tmp_path, backend):
    name = "é.png".encode("latin-1")
    write(tmp_path / "db", backend, [(name.decode("utf-8", "surrogateescape"), b"v")])
    assert read(tmp_path / "db", backend) == [(name, b"v")]


def test_cursor_wraps_around_with_a_line_in_the_log(tmp_path, backend, caplog):
    with open_db(write(tmp_path / "db", backend, RECORDS[:3]), backend) as database:
        cursor = Cursor(database)
        with caplog.at_level(logging.INFO):
            keys = [cursor.next()[0] for _ in range(7)]
    assert keys == [b"00000", b"00001", b"00002"] * 2 + [b"00000"]
    assert [record.getMessage() for record in caplog.records] == ["Restarting data prefetching from start."] * 2


def test_cursor_goes_on_from_a_saved_position(tmp_path, backend):
    path = write(tmp_path / "db", backend)
    with open_db(path, backend) as first, open_db(path, backend) as second:
        cursor, other = Cursor(first), Cursor(second)
        for _ in range(1234):
            cursor.next()
        other.seek(cursor.position)
        assert [other.next()[0] for _ in range(1500)] == [cursor.next()[0] for _ in range(1500)]


def test_two_readers_share_one_folder(tmp_path, backend):
    path = write(tmp_path / "db", backend)
    with open_db(path, backend) as first:
        with open_db(path, backend) as second:
            assert next(first.items())[0] == next(second.items())[0] == b"00000"
        assert len(list(first.items())) == len(RECORDS)


def test_a_map_that_is_too_small_grows(tmp_path):
    big = [(b"%05d" % i, os.urandom(1000)) for i in range(3000)]
    from minicaffe.data.lmdb_store import LmdbStore

    store = LmdbStore(str(tmp_path / "db"), map_size=1 << 16)
    store.write(big)
    store.close()
    assert read(tmp_path / "db", "lmdb") == big


def test_nothing_stands_under_the_name_before_the_end(tmp_path, backend):
    with pytest.raises(RuntimeError, match="interrupted"), open_db(tmp_path / "db", backend, "w") as database:
        for key, value in RECORDS:
            database.put(key, value)
        assert not (tmp_path / "db").exists()
        raise RuntimeError("interrupted")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path, backend):
    write(tmp_path / "db", backend)
    with pytest.raises(DataError, match="db exists already: remove it first"):
        open_db(tmp_path / "db", backend, "w")


def test_missing_database(tmp_path, backend):
    with pytest.raises(DataError, match=r"(LMDB|LevelDB) .*nowhere does not exist"):
        open_db(tmp_path / "nowhere", backend)


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("data/mnist/mnist_train_lmdb", "mnist"),
        ("data/cifar10/cifar10_test_lmdb/", "cifar10"),
        ("my sets/cifar10_train_leveldb", "cifar10 --dest 'my sets' --backend leveldb"),
        ("cifar10_train_pad4_lmdb", "cifar10 --dest . --pad 4"),
        ("data/shapes/train_lmdb", "shapes"),
        ("../shapes/test_leveldb", "shapes --dest ../shapes --backend leveldb"),
        ("data/mnist/train_lmdb", None),
        ("train_lmdb", None),
        ("data/mnist/mnist_train_pad4_lmdb", None),
        ("data/mnist/mnist_val_lmdb", None),
    ],
)
def test_a_missing_data_set_names_the_command_that_writes_it(source, command):
    with pytest.raises(DataError) as caught:
        open_db(source, "lmdb")
    end = f"): `minicaffe data {command}` writes it" if command else ")"
    assert str(caught.value).endswith(f"does not exist (looked in {os.getcwd()}{end}")


def test_a_file_or_an_empty_folder_is_no_database(tmp_path, backend):
    (tmp_path / "file").write_text("hello")
    with pytest.raises(DataError, match="must be a folder, but it is a file"):
        open_db(tmp_path / "file", backend)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is no (LMDB|LevelDB): it has no (data.mdb|CURRENT) file"):
        open_db(tmp_path / "empty", backend)


def test_a_database_of_the_other_kind_says_which_backend_to_set(tmp_path, backend):
    other = {"lmdb": "leveldb", "leveldb": "lmdb"}[backend]
    write(tmp_path / "db", backend)
    with pytest.raises(DataError, match=f"of the other kind: set backend: {backend.upper()}"):
        open_db(tmp_path / "db", other)


def test_unknown_backend_and_mode(tmp_path):
    with pytest.raises(DataError, match=r'unknown database backend "lmbd", .* \(did you mean "lmdb"\?\)'):
        open_db(tmp_path, "lmbd")
    with pytest.raises(DataError, match='mode of database .* must be "r" or "w", got \'a\''):
        open_db(tmp_path, "lmdb", "a")
    with pytest.raises(DataError, match="folder .*none does not exist"):
        open_db(tmp_path / "none" / "db", "lmdb", "w")


def test_an_empty_database_is_refused_by_its_cursor(tmp_path, backend):
    with open_db(write(tmp_path / "db", backend, []), backend) as database:
        assert len(database) == 0
        with pytest.raises(DataError, match="db holds no records"):
            Cursor(database).next()


@pytest.mark.parametrize("left", [0, 100, 5000, 40960])
def test_truncated_lmdb(tmp_path, left):
    path = write(tmp_path / "db", "lmdb")
    os.truncate(path / "data.mdb", left)
    with pytest.raises(DataError, match=f"LMDB .*db is truncated: data.mdb has {left} bytes"):
        open_db(path, "lmdb")


def test_a_file_that_is_no_lmdb(tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "data.mdb").write_bytes(struct.pack("<I", 7) * 4096)
    with pytest.raises(DataError, match="is no LMDB data file: magic number 0x7, expected 0xbeefc0de"):
        open_db(tmp_path / "db", "lmdb")


def test_truncated_leveldb(tmp_path):
    path = write(tmp_path / "db", "leveldb")
    table = next(path.glob("*.ldb"))
    os.truncate(table, 1000)
    with pytest.raises(DataError, match=rf"cannot read LevelDB .*{table.name} is truncated: it has 1000 bytes"):
        open_db(path, "leveldb")
    table.unlink()
    with pytest.raises(DataError, match="cannot read LevelDB .*table 000003.ldb is missing"):
        open_db(path, "leveldb")


def test_an_lmdb_cut_while_it_is_open_is_refused_by_the_next_reader(tmp_path):
    path = write(tmp_path / "db", "lmdb")
    with open_db(path, "lmdb"):
        os.truncate(path / "data.mdb", 6000)
        with pytest.raises(DataError, match="is truncated"):
            open_db(path, "lmdb")


def test_an_iteration_outlives_its_reader(tmp_path, backend):
    database = open_db(write(tmp_path / "db", backend), backend)
    items = database.items()
    first = next(items)[0]
    if backend == "lmdb":
        database.close()
    assert [first, *(key for key, _ in items)] == [key for key, _ in RECORDS]


def test_a_new_database_at_the_place_of_an_open_one(tmp_path):
    path = write(tmp_path / "db", "lmdb")
    with open_db(path, "lmdb") as old:
        path.rename(tmp_path / "old")
        write(path, "lmdb", [(b"a", b"new")])
        assert read(path, "lmdb") == [(b"a", b"new")]
        assert len(list(old.items())) == len(RECORDS)


def test_an_lmdb_is_one_file(tmp_path):
    """There is no lock file, which the package maps: on a full disk that would end the process."""
    assert [file.name for file in write(tmp_path / "db", "lmdb").iterdir()] == ["data.mdb"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, backend, monkeypatch):
    import importlib

    module, name = {"lmdb": ("lmdb_store", "LmdbStore"), "leveldb": ("leveldb_store", "LevelDbStore")}[backend]
    store = getattr(importlib.import_module(f"minicaffe.data.{module}"), name)
    written = []

    def full(self, records):
        written.append(len(records))
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(DataError, match="cannot write database .*db: .*No space left on device"):
        write(tmp_path / "db", backend)
    assert written == [1000, 1000] and list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_start(tmp_path, backend, monkeypatch):
    def full(folder, backend):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minicaffe.data.db._new_store", full)
    with pytest.raises(DataError, match="cannot write database .*db: No space left on device"):
        open_db(tmp_path / "db", backend, "w")
    assert list(tmp_path.iterdir()) == []


def test_a_null_character_in_the_name(backend):
    for mode in "wr":
        with pytest.raises(DataError, match="null|does not exist"):
            open_db("a\0b", backend, mode)


def test_everything_is_flushed_to_the_disk_before_the_database_has_its_name(tmp_path, backend, monkeypatch):
    calls, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(os.fstat(handle).st_ino) or fsync(handle))
    monkeypatch.setattr(os, "rename", lambda *paths: calls.append("rename") or rename(*paths))
    path = write(tmp_path / "db", backend)
    inodes = [file.stat().st_ino for file in path.iterdir()]
    assert sorted(calls[: len(inodes)]) == sorted(inodes)
    assert calls[len(inodes) :] == [path.stat().st_ino, "rename", tmp_path.stat().st_ino]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_the_remains_of_a_killed_process_are_removed(tmp_path, backend):
    killed = os.fork()
    if killed == 0:
        writer = open_db(tmp_path / "db", backend, "w")
        writer.put(b"a", b"1")
        writer.commit()
        os._exit(0)
    os.waitpid(killed, 0)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".db.part-")
    with open_db(tmp_path / "other", backend, "w"):
        assert left.exists()
    with open_db(tmp_path / "db", backend, "w") as first:
        assert not left.exists()
        first.put(b"b", b"2")
        with pytest.raises(RuntimeError), open_db(tmp_path / "db", backend, "w"):
            raise RuntimeError  # a second one, which leaves the folder of the first, in progress, as it is
    assert read(tmp_path / "db", backend) == [(b"b", b"2")]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["db", "other"]


def test_a_database_that_is_not_named():
    with pytest.raises(DataError, match="no LMDB is named: data_param.source must be given"):
        open_db("", "lmdb")
