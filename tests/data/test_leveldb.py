"""LevelDB's own formats: checksums, Snappy, logs, and (where it is installed) the original library for comparison."""

import os
import struct

import pytest

from minicaffe.data.crc32c import crc32c, masked
from minicaffe.data.db import open_db
from minicaffe.data.leveldb_log import log_records
from minicaffe.data.leveldb_store import log_bytes
from minicaffe.data.leveldb_table import block_entries
from minicaffe.data.snappy import decompress
from minicaffe.errors import DataError
from minicaffe.varint import varint


def test_crc32c_known_values():
    # RFC 3720, B.4, and the standard check value of "123456789".
    pieces = [b"123456789", bytes(32), b"\xff" * 32, bytes(range(32)), bytes(range(31, -1, -1))]
    assert crc32c(pieces) == [0xE3069283, 0x8A9136AA, 0x62A8AB43, 0x46DD794E, 0x113FDB5C]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("other", [b"other", bytes(9000)])
def test_crc32c_against_a_plain_loop(length, other):
    piece = os.urandom(length)
    crc = 0xFFFFFFFF
    for byte in piece:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c([other, piece]) == [crc32c([other])[0], crc ^ 0xFFFFFFFF]


def test_snappy():
    assert decompress(b"\x05\x10hello") == b"hello"
    repeated = b"\x14" + b"\x04ab" + bytes([(18 - 1) << 2 | 2]) + struct.pack("<H", 2)  # an overlapping copy
    assert decompress(repeated) == b"ab" * 10
    long_literal = varint(300) + bytes([61 << 2]) + struct.pack("<H", 299) + bytes(300)
    assert decompress(long_literal) == bytes(300)
    one_byte_offset = varint(9) + b"\x10hello" + bytes([0 << 5 | (4 - 4) << 2 | 1, 5])
    assert decompress(one_byte_offset) == b"hellohell"
    with pytest.raises(ValueError, match="holds 5 bytes, expected 6"):
        decompress(b"\x06\x10hello")
    with pytest.raises(ValueError, match="copies from before its start"):
        decompress(b"\x05" + bytes([(5 - 1) << 2 | 2]) + struct.pack("<H", 2))


@pytest.mark.parametrize("length", [0, 10, 32761, 32762, 100_000])
def test_log_fragments(tmp_path, length):
    record = os.urandom(length)
    (tmp_path / "log").write_bytes(log_bytes(record))
    assert list(log_records(tmp_path / "log")) == [record]
    (tmp_path / "log").write_bytes(log_bytes(record)[:-1])
    assert list(log_records(tmp_path / "log")) == []


def batch(sequence, *entries):
    """Encode a write batch of puts (key, value) and deletions (key, None)."""
    body = struct.pack("<QI", sequence, len(entries))
    for key, value in entries:
        body += bytes([value is not None]) + varint(len(key)) + key
        body += b"" if value is None else varint(len(value)) + value
    return body


def test_writes_that_are_still_in_the_log(tmp_path):
    with open_db(tmp_path / "db", "leveldb", "w") as database:
        database.put(b"a", b"1")
        database.put(b"b", b"2")
        database.put(b"d", b"4")
    newest = batch(10, (b"b", None), (b"c", b"3"), (b"d", b"four"))
    (tmp_path / "db" / "000009.log").write_bytes(log_bytes(newest))
    (tmp_path / "db" / "000001.log").write_bytes(log_bytes(batch(1, (b"z", b"stale"))))  # older than in the manifest
    with open_db(tmp_path / "db", "leveldb") as database:
        assert list(database.items()) == [(b"a", b"1"), (b"c", b"3"), (b"d", b"four")]
        assert list(database.items(b"a")) == [(b"c", b"3"), (b"d", b"four")]
        assert database.keys() == [b"a", b"c", b"d"]
        assert [database.get(key) for key in (b"a", b"c", b"d")] == [b"1", b"3", b"four"]
        for key in (b"b", b"z"):
            with pytest.raises(DataError, match="db has no record"):
                database.get(key)


def test_tables_that_overlap(tmp_path, monkeypatch):
    monkeypatch.setattr("minicaffe.data.leveldb_store._TABLE", 50)
    with open_db(tmp_path / "db", "leveldb", "w") as database:
        for turn in range(3):
            for i in range(0, 40, turn + 1):
                database.put(b"%02d" % i, b"%d" % turn * (i % 7))
    assert len(list((tmp_path / "db").glob("*.ldb"))) > 5
    with open_db(tmp_path / "db", "leveldb") as database:
        expected = {b"%02d" % i: (b"2" if i % 3 == 0 else b"1" if i % 2 == 0 else b"0") * (i % 7) for i in range(40)}
        assert dict(database.items()) == {key: database.get(key) for key in database.keys()} == expected


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files in /proc")
def test_few_of_many_tables_are_open_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("minicaffe.data.leveldb_store._TABLE", 10)
    with open_db(tmp_path / "db", "leveldb", "w") as database:
        for i in range(200):
            database.put(b"%03d" % i, bytes(20))
    before = len(os.listdir("/proc/self/fd"))
    with open_db(tmp_path / "db", "leveldb") as database:
        assert len(list(database.items())) == 200
        assert database.get(b"000") == bytes(20)
        assert len(os.listdir("/proc/self/fd")) - before < 80


def test_the_mask_is_leveldbs():
    crc = crc32c([b"foo"])[0]  # masked and unmasked as in util/crc32c.h
    rotated = (masked(crc) - 0xA282EAD8) & 0xFFFFFFFF
    assert masked(crc) != crc and (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc


def test_the_original_library_reads_ours_and_the_reverse(tmp_path):
    plyvel = pytest.importorskip("plyvel")
    records = [(b"%05d" % i, os.urandom(700) + bytes(700)) for i in range(3000)]
    with open_db(tmp_path / "ours", "leveldb", "w") as database:
        for key, value in records:
            database.put(key, value)
    theirs = plyvel.DB(str(tmp_path / "ours"))
    assert list(theirs.iterator(verify_checksums=True)) == records
    theirs.close()
    other = plyvel.DB(str(tmp_path / "theirs"), create_if_missing=True, write_buffer_size=1 << 18)
    for key, value in reversed(records):
        other.put(key, value)
    for key, _ in records[::7]:
        other.delete(key)
    expected = list(other.iterator())
    other.close()
    with open_db(tmp_path / "theirs", "leveldb") as database:
        assert list(database.items()) == expected


# -- damaged and hostile files -----------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    with open_db(tmp_path / "db", "leveldb", "w") as writer:
        for number in range(3):
            writer.put(b"%d" % number, b"v")
    return tmp_path / "db"


def read_all(path):
    with open_db(path, "leveldb") as database:
        return list(database.items())


TABLE_3 = b"\x07\x00\x03\x00\x00\x09" + b"\xff" * 9  # the table 000003.ldb with any size and all keys


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (log_bytes(b"\x02" + b"\xff" * 100_000), "a number in it has more than 64 bits, or is cut off"),
        (log_bytes(b"\x02" + b"\xff" * 9 + b"\x7f"), "a number in it has more than 64 bits, or is cut off"),
        (log_bytes(b"\x02\xff"), "a number in it has more than 64 bits, or is cut off"),
        (log_bytes(b"\x63"), "the manifest has an unknown tag 99"),
        (log_bytes(b"\x01" + varint(1 << 40) + b"x"), "a record ends before the 1099511627776 bytes of a key or value"),
        (
            log_bytes(b"\x07\x00" + varint(3) + varint(1 << 60) + b"\0\0"),
            "000003.ldb is truncated: it has .* expected 1152",
        ),
        (log_bytes(b"\x07\x00" + varint(1 << 60) + b"\0\0\0"), "table 1152921504606846976.ldb is missing"),
    ],
)
def test_damaged_manifest(database, content, message):
    (database / "MANIFEST-000002").write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read LevelDB .*db: {message}"):
        read_all(database)


@pytest.mark.parametrize("name", ["../MANIFEST-000002", "/etc/passwd", "", "MANIFEST-2/x", "\0", "000003.ldb"])
def test_current_names_only_manifests(database, name):
    (database / "CURRENT").write_text(name)
    with pytest.raises(DataError, match="CURRENT does not name a manifest, such as MANIFEST-000002"):
        read_all(database)


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-000002", "000003.ldb", "000009.log"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_not_regular_files(database, name):
    (database / "MANIFEST-000002").write_bytes(log_bytes(TABLE_3))
    (database / name).unlink(missing_ok=True)
    os.mkfifo(database / name)
    with pytest.raises(DataError, match=f"it is a FIFO, expected a regular file.*{name}"):
        read_all(database)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (b"short", "000009.log has a batch of 5 bytes, expected at least 12"),
        (struct.pack("<QI", 1, 2**32 - 1) + b"\x01\x01k\x01v", "a number in it .* is cut off"),
        (struct.pack("<QI", 1, 1) + b"\x05\x01k\x01v", "000009.log has an entry of unknown kind 5"),
        (struct.pack("<QI", 1, 1) + b"\x01\x7fk", "a record ends before the 127 bytes of a key or value"),
    ],
)
def test_damaged_log(database, batch, message):
    (database / "000009.log").write_bytes(log_bytes(batch))
    with pytest.raises(DataError, match=f"cannot read LevelDB .*db: {message}"):
        read_all(database)


def entry(shared, rest, length, data):
    return varint(shared) + varint(rest) + varint(length) + data


def block(*entries, restarts=1):
    return b"".join(entries) + bytes(4) + struct.pack("<I", restarts)


def table(blocks, handles=None):
    """A table of the blocks, (content, compression), with one index entry for each of the handles; default: for all."""
    content, places = b"", []
    for data, compression in blocks:
        places.append(varint(len(content)) + varint(len(data)))
        content += data + bytes([compression]) + bytes(4)
    key = b"\xff" * 9
    index = block(*(entry(0, 9, len(handle), key + handle) for handle in handles or places))
    footer = varint(0) + varint(0) + varint(len(content)) + varint(len(index))
    return content + index + bytes(5) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


KEY = b"k" + struct.pack("<Q", 257)
GOOD = block(entry(0, 9, 1, KEY + b"v"))


def test_a_table_made_by_hand(database):
    (database / "000003.ldb").write_bytes(table([(GOOD, 0)]))
    (database / "MANIFEST-000002").write_bytes(log_bytes(TABLE_3))
    assert read_all(database) == [(b"k", b"v")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "000003.ldb is truncated: it has 5 bytes, expected 48"),
        (bytes(48), "000003.ldb does not end like a table"),
        (table([(GOOD, 2)]), "000003.ldb uses compression 2; only 0 and 1 are known"),
        (
            table([(GOOD, 0)], [varint(1 << 60) + varint(9)]),
            "000003.ldb is damaged: a block of 9 bytes begins at byte 1152",
        ),
        (table([(GOOD, 0)], [varint(0) + varint(1 << 40)]), "000003.ldb is damaged: its blocks are larger than"),
        (
            table([(GOOD, 0)], [varint(0) + varint(len(GOOD))] * 1000),
            "000003.ldb is damaged: its blocks are larger than",
        ),
        (table([(b"", 0)]), "a block of 0 bytes states 1 restart points"),
        (table([(block(restarts=1000), 0)]), "a block of 8 bytes states 1000 restart points"),
        (table([(block(entry(5, 4, 0, b"abcd")), 0)]), "a block has a key or value that is longer than the block"),
        (
            table([(block(entry(0, 1 << 40, 0, b"abcd")), 0)]),
            "a block has a key or value that is longer than the block",
        ),
        (
            table([(block(entry(0, 4, 1 << 40, b"abcd")), 0)]),
            "a block has a key or value that is longer than the block",
        ),
        (table([(block(entry(0, 4, 0, b"abcd")), 0)]), "000003.ldb has a key of 4 bytes, expected at least 8"),
        (table([(block(entry(0, 9, 0, b"z" * 9), entry(0, 9, 0, KEY)), 0)]), "its keys are out of order"),
        (table([(varint(1 << 40) + b"\x00a", 1)]), "snappy block holds 1 bytes, expected 1099511627776"),
        (table([(varint(9) + b"\xfc\xff", 1)]), "snappy block ends in the middle of a literal or a copy"),
        (table([(b"", 1)]), "a number in it has more than 64 bits, or is cut off"),
    ],
)
def test_damaged_table(database, content, message):
    (database / "000003.ldb").write_bytes(content)
    (database / "MANIFEST-000002").write_bytes(log_bytes(TABLE_3))
    with pytest.raises(DataError, match=f"cannot read LevelDB .*db: {message}"):
        read_all(database)


def test_keys_that_expand_too_far(monkeypatch):
    """A block in which every key repeats a long one."""
    monkeypatch.setenv("MINICAFFE_MAX_EXPANDED", "1000000")
    long = block(entry(0, 10_000, 0, b"k" * 10_000), *(entry(10_000, 1, 0, b"x") for _ in range(1000)))
    with pytest.raises(ValueError, match="a block of .* bytes has keys of more than .* bytes"):
        list(block_entries(long))


def test_a_table_truncated_while_it_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr("minicaffe.data.leveldb_store._BLOCK", 100)
    with open_db(tmp_path / "db", "leveldb", "w") as writer:
        for number in range(100):
            writer.put(b"%03d" % number, bytes(50))
    with open_db(tmp_path / "db", "leveldb") as reader:
        items = reader.items()
        next(items)
        os.truncate(tmp_path / "db" / "000003.ldb", 300)
        with pytest.raises(DataError, match="000003.ldb is truncated: it ends before byte"):
            list(items)
