"""LevelDB's own formats: checksums, Snappy, logs, and (where it is installed) the original library for comparison."""

import os
import struct

import pytest

from minicaffe.data.crc32c import crc32c, masked
from minicaffe.data.db import open_db
from minicaffe.data.leveldb import log_records
from minicaffe.data.leveldb_store import log_bytes, varint
from minicaffe.data.snappy import decompress
from minicaffe.errors import DataError


def test_crc32c_known_values():
    # RFC 3720, B.4, and the standard check value of "123456789".
    pieces = [b"123456789", bytes(32), b"\xff" * 32, bytes(range(32)), bytes(range(31, -1, -1))]
    assert crc32c(pieces) == [0xE3069283, 0x8A9136AA, 0x62A8AB43, 0x46DD794E, 0x113FDB5C]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 1023, 1024, 1025, 5000])
def test_crc32c_against_a_plain_loop(length):
    piece = os.urandom(length)
    crc = 0xFFFFFFFF
    for byte in piece:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c([b"other", piece]) == [crc32c([b"other"])[0], crc ^ 0xFFFFFFFF]


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
