"""Reading of regular files, writing that is atomic and durable, and what killed processes leave behind."""

import contextlib
import os
import subprocess
import sys

import h5py
import pytest

from minicaffe import files, hdf5_file, limits
from minicaffe.data import db
from minicaffe.errors import DataError, SnapshotError, UsageError

posix = pytest.mark.skipif(os.name != "posix", reason="needs FIFOs and locks of files")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (".", "it is a folder, expected a regular file"),
        ("no", "No such file or directory"),
        ("a\0b", "its name has a null character"),
        (b"a\0b", "its name has a null character"),
        ("\ud800", "its name has characters that no file name has"),
        pytest.param("fifo", "it is a FIFO, expected a regular file", marks=posix),
        pytest.param("/dev/zero", "it is a device, expected a regular file", marks=posix),
    ],
)
def test_what_is_no_regular_file(path, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path == "fifo":
        os.mkfifo(path)
    with pytest.raises(OSError) as caught:
        files.read_bytes(path)
    assert caught.value.strerror == reason


@posix
def test_own_descriptors_are_read_where_pipes_are_allowed():
    reading, writing = os.pipe()
    os.write(writing, b"text")
    os.close(writing)
    with pytest.raises(OSError, match="it is a FIFO"):
        files.read_bytes(f"/dev/fd/{reading}")
    assert files.read_bytes(f"/dev/fd/{reading}", pipes=True) == b"text"
    os.close(reading)


def test_reading_at_positions(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"0123456789")
    file = files.RandomAccessFile(tmp_path / "file")
    for _ in range(2):
        assert (
            file.size == 10 and file.read(3, 5) == b"567" and file.read(0, 10) == b"" and file.read(10, 0)[9:] == b"9"
        )
        with pytest.raises(DataError, match="file is truncated: it ends before byte 11"):
            file.read(3, 8)
        monkeypatch.delattr(os, "pread", raising=False)  # as on Windows
    with pytest.raises(OSError, match="No such file"):
        files.RandomAccessFile(tmp_path / "no")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files in /proc")
def test_a_file_is_closed_with_its_last_reference(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    before = len(os.listdir("/proc/self/fd"))
    file = files.RandomAccessFile(tmp_path / "file")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del file
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    files.write_atomically(tmp_path / "w", "text")
    folder = ["sync"] * hasattr(os, "O_DIRECTORY")
    assert done == ["sync", "rename", *folder] and (tmp_path / "w").read_text() == "text"


def test_permissions_are_those_of_a_new_file(tmp_path):
    (tmp_path / "a").write_text("")
    files.write_atomically(tmp_path / "b", b"")
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "b").st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ZeroDivisionError()])
def test_a_failed_write_leaves_the_old_file_alone(error, tmp_path):
    path = tmp_path / "w.h5"
    path.write_text("old")
    with pytest.raises(SnapshotError if isinstance(error, OSError) else type(error)):
        with files.replacing(path, SnapshotError) as temporary:
            assert temporary.endswith(".h5")
            with open(temporary, "w") as file:
                file.write("half")
            raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["w.h5"]


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "a\0b", "a\0b/c", "\ud800", "no/file"])
def test_odd_names(name, tmp_path):
    if len(name) > 10:
        files.write_atomically(tmp_path / name, "text")
        assert os.listdir(tmp_path) == [name]
    else:
        with pytest.raises(DataError, match="^cannot write '"):
            files.write_atomically(f"{tmp_path}/{name}", "text")


def test_check_writable_changes_nothing(tmp_path):
    (tmp_path / "w").write_text("old")
    files.check_writable(tmp_path / "w")
    assert (tmp_path / "w").read_text() == "old" and os.listdir(tmp_path) == ["w"]
    with pytest.raises(OSError, match="No such file"):
        files.check_writable(tmp_path / "no" / "w")
    for name in ("a\0b", "a\0b/c", "\ud800"):
        with pytest.raises(OSError, match="its name has"):
            files.check_writable(f"{tmp_path}/{name}")
        with pytest.raises(OSError, match="its name has"):
            files.NewFolder(f"{tmp_path}/{name}")


_WRITE_AND_WAIT = """
import sys
from minicaffe import files
with files.replacing("net_iter_4.caffemodel"), files.replacing("other_iter_4.caffemodel"):
    print("writing", flush=True)
    sys.stdin.read()
"""


@posix
def test_leftovers_of_killed_processes_are_removed(tmp_path):
    (tmp_path / ".net_notes").write_text("a user's own hidden file")
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_WAIT], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"writing\n"
        assert not files.remove_leftovers(f"{tmp_path}/net_iter_"), "the process is alive"
        process.kill()
    left = sorted(os.listdir(tmp_path))
    assert len(left) == 3
    (removed,) = files.remove_leftovers(f"{tmp_path}/net_iter_")
    assert os.path.basename(removed).startswith(".net_iter_4.caffemodel.part-")
    assert len(os.listdir(tmp_path)) == 2, "the other prefix's file and the user's own are kept"
    assert not files.remove_leftovers(f"{tmp_path}/no/net_iter_")


def test_hdf5_is_built_in_memory(tmp_path):
    def fill(file):
        file.create_group("data/a")["0"] = [1.0, 2.0]

    content = bytes(hdf5_file.content(fill))
    assert content[:9] == b"\x89HDF\r\n\x1a\n\0", "the signature, and version 0 of the format"
    (tmp_path / "w.h5").write_bytes(content)
    with h5py.File(tmp_path / "w.h5") as file:
        assert file["data/a/0"][()].tolist() == [1.0, 2.0] and list(file) == ["data"]


def test_limits_come_from_the_environment(monkeypatch):
    assert limits.max_pixels() == 1 << 26
    monkeypatch.setenv("MINICAFFE_MAX_PIXELS", "100")
    assert limits.max_pixels() == 100
    monkeypatch.setenv("MINICAFFE_MAX_EXPANDED", "1e9")
    with pytest.raises(UsageError, match="MINICAFFE_MAX_EXPANDED must be a whole number, got '1e9'"):
        limits.max_expanded()


@pytest.mark.parametrize(
    ("size", "stored", "expected"), [(1 << 29, 1, False), (1 << 30, 1, True), (1 << 30, 1 << 24, False)]
)
def test_data_that_expand_too_far(size, stored, expected):
    assert limits.expands_too_far(size, stored) == expected


def test_ctrl_c_while_a_file_is_opened(tmp_path, monkeypatch):
    """`fdopen` closes the descriptor then; closing it again would hide the interruption behind an OSError."""

    def interrupted(descriptor, mode):
        os.close(descriptor)
        raise KeyboardInterrupt

    (tmp_path / "w").write_text("")
    monkeypatch.setattr(os, "fdopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.open_regular(tmp_path / "w")


@pytest.fixture
def as_on_windows(monkeypatch):
    """A system without locks and descriptors of folders, which neither renames nor removes a file that is open."""

    def unless_open(change):
        def changed(path, *more, **options):
            for number in os.listdir("/proc/self/fd"):
                with contextlib.suppress(OSError):
                    opened = os.readlink(f"/proc/self/fd/{number}")
                    assert os.path.realpath(path) not in (opened, os.path.dirname(opened)), f"{opened} is open"
            return change(path, *more, **options)

        return changed

    monkeypatch.setattr(files, "fcntl", None)
    for name in ("replace", "rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, unless_open(getattr(os, name)))
    monkeypatch.delattr(os, "O_DIRECTORY")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's list of open files")
def test_no_open_file_is_renamed_where_that_is_impossible(tmp_path, as_on_windows):
    path = tmp_path / "file.txt"
    for text in ("old", "new"):
        files.write_atomically(path, text)
        assert path.read_text() == text
    with pytest.raises(SnapshotError, match="no room"), files.replacing(path, SnapshotError) as temporary:
        raise OSError(28, "no room")
    assert not os.path.exists(temporary) and path.read_text() == "new"
    files.check_writable(path)
    for backend in ("lmdb", "leveldb"):
        with db.DatabaseWriter(str(tmp_path / backend), backend) as writer:
            writer.put("a", b"b")
        with db.DatabaseWriter(str(tmp_path / "discarded"), backend) as writer:
            writer.put("a", b"b")
            writer.discard()
    assert sorted(os.listdir(tmp_path)) == ["file.txt", "leveldb", "lmdb"]
