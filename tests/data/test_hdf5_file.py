"""HDF5 files of unknown origin: what is read, what is refused, and what happens to the process that reads them."""

import os
import signal
import threading

import h5py
import numpy as np
import pytest

from minicaffe import hdf5_child, hdf5_contents
from minicaffe.errors import DataError, SnapshotError
from minicaffe.hdf5_file import content, opened


@pytest.fixture(params=["child", "no fork"])
def process(request, monkeypatch):
    """Read in a child process, and as on systems without fork."""
    if request.param == "no fork":
        monkeypatch.delattr(os, "fork")


def write(path, fill):
    path.write_bytes(content(fill))
    return path


def numbers(path, name):
    with opened(path) as file:
        return file.numbers(file.find(name))


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "u1", ">i8", "?"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_numbers(tmp_path, process, dtype, shape):
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)

    def fill(file):
        file["a/b"] = values
        if shape:
            file.create_dataset("packed", data=values, compression="gzip", shuffle=True, maxshape=(None, *shape[1:]))
        file["link"] = h5py.SoftLink("/a/b")

    path = write(tmp_path / "x.h5", fill)
    for name in ("a/b", "link", "packed" if shape else "a/b"):
        found = numbers(path, name)
        assert found.dtype == values.dtype and found.shape == shape and np.array_equal(found, values)


def test_names_texts_and_groups(tmp_path, process):
    def fill(file):
        file["g/one/0"], file["g/two/x/0"], file["text"], file["fixed"] = 1.0, 2.0, "é", np.bytes_(b"ab\0")
        file.create_group("g/empty")
        file["g/two/back"] = file["g"]
        file["soft"] = h5py.SoftLink("g/one")
        file.attrs["digest"], file.attrs["count"] = np.bytes_(b"abc"), 3

    with opened(write(tmp_path / "x.h5", fill)) as file:
        assert file.names() == ["fixed", "g", "soft", "text"]
        assert (file.find("g"), file.find("soft"), file.find("none"), file.find("text/x")) == ("group", "group", "", "")
        assert file.text(file.find("text")) == "é" and file.text(file.find("fixed")) == "ab"
        assert [file.attribute(name) for name in ("digest", "count", "none")] == ["abc", "", ""]
        groups = file.groups("g")
        assert list(groups) == ["empty", "one", "two", "two/x"]
        assert file.numbers(groups["two/x"]["0"]) == 2 and groups["two"] == {"back": "group", "x": "group"}
        assert list(file.members("g/one")) == ["0"]


def test_no_other_file_is_opened(tmp_path, process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret = write(tmp_path / "secret.h5", lambda file: file.create_dataset("d", data=np.arange(3.0)))
    np.arange(3.0).tofile("secret.bin")
    with h5py.File("x.h5", "w") as file:
        file["link"], file["folder"] = h5py.ExternalLink("secret.h5", "/d"), h5py.ExternalLink("secret.h5", "/")
        file["soft"], file["g/soft"] = h5py.SoftLink("/link"), h5py.SoftLink("/folder/d")
        file["loop"], file["none"] = h5py.SoftLink("loop"), h5py.SoftLink("nothing")
        file.create_dataset("raw", (3,), "f8", external=[("secret.bin", 0, 24)])
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource("secret.h5", "d", (3,))
        file.create_virtual_dataset("virtual", layout)
    secret.unlink()
    os.mkfifo(secret)  # to open it would take forever
    os.unlink("secret.bin")
    os.mkfifo("secret.bin")
    reasons = {
        "link": "is a link to another file", "folder/d": "is a link to another file",
        "soft": "is a link to another file", "g/soft": "is a link to another file", "loop": "is one of too many links",
        "raw": "has its values in another file", "virtual": "is virtual: its values are in other files",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=f'dataset "{name}" of HDF5 file x.h5 {reason}'):
            numbers("x.h5", name)
    with opened("x.h5") as file:
        assert file.find("none") == ""
        assert "soft" in file.groups(".")["g"]


def test_what_is_no_array_of_numbers(tmp_path, process):
    def fill(file):
        file["text"], file["records"], file["empty"] = ["a", "b"], np.zeros(3, [("x", "i4")]), h5py.Empty("f4")
        file["type"] = np.dtype("f4")
        file.create_dataset("lists", (2,), h5py.vlen_dtype(np.float32))
        file.create_dataset("huge", (1 << 40,), "f4", chunks=(1 << 20,))

    path = write(tmp_path / "x.h5", fill)
    reasons = {
        "text": "must be an array of numbers, got text", "records": "must be an array of numbers, got records",
        "lists": "must be an array of numbers, got ", "empty": "has no values", "type": "is a type, not a dataset",
        "huge": f"has {4 << 40} bytes of values in a file of {path.stat().st_size} bytes: more than .* allows",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=f'dataset "{name}" of HDF5 file .*x.h5 {reason}'):
            numbers(path, name)


def test_files_that_cannot_be_opened(tmp_path, process):
    with (
        pytest.raises(SnapshotError, match="HDF5 file .*none does not exist$"),
        opened(tmp_path / "none", SnapshotError),
    ):
        pass
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("no HDF5")
    (tmp_path / "half").write_bytes(content(lambda file: file.create_dataset("d", data=np.ones(99)))[:1500])
    reasons = {
        "fifo": "it is a FIFO",
        "text": "Unable to .*open file .*signature",
        "half": "Unable to .*truncated file",
    }
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=f"HDF5 file .*{name} cannot be read: {reason}"), opened(tmp_path / name):
            pass


def test_names_that_are_not_utf_8(tmp_path, process):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("g/\xe9\xe9\xe9", data=np.ones(2)))
    path.write_bytes(path.read_bytes().replace("\xe9\xe9\xe9".encode(), b"\xe9\xe9\xe9abc"))
    with opened(path) as file:
        (name, dataset), *more = file.members("g").items()
        assert name == "\udce9\udce9\udce9abc" and not more and list(file.groups(".")) == ["g"]
        assert file.numbers(dataset).tolist() == [1, 1]


def test_deep_groups(tmp_path, process):
    path = write(tmp_path / "x.h5", lambda file: file.create_group("g/" * 200))
    with pytest.raises(DataError, match="its groups are nested more than 100 deep"), opened(path) as file:
        file.groups("g")


# -- the child process -------------------------------------------------------------------------------------------------


def crash(*_):
    os.kill(os.getpid(), signal.SIGSEGV)


def spin(*_):
    while True:
        pass


def use_memory(*_):
    return np.ones(1 << 31, np.uint8)


@pytest.mark.parametrize(
    ("method", "action", "reason"),
    [
        ("open", crash, "it is damaged: the HDF5 library ended its process with SIGSEGV"),
        ("find", crash, "it is damaged: the HDF5 library ended its process with SIGSEGV"),
        ("values", crash, "it is damaged: the HDF5 library ended its process with SIGSEGV"),
        ("find", spin, "reading it takes too long"),
        ("values", use_memory, "reading it takes too much memory"),
    ],
)
def test_the_library_fails(tmp_path, monkeypatch, method, action, reason):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("d", data=np.ones(3)))
    monkeypatch.setattr(hdf5_child, "_SECONDS", 1)
    monkeypatch.setattr(hdf5_contents.Contents, method, action)
    with pytest.raises(DataError, match=f"HDF5 file .*x.h5 cannot be read: {reason}"):
        numbers(path, "d")


def test_nothing_is_left_of_a_child(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("d", data=np.ones(3)))
    numbers(path, "d")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ZeroDivisionError), opened(path) as file:
        child = file._reader._process
        raise ZeroDivisionError
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)


def test_files_in_threads(tmp_path):
    values = np.arange(300_000.0)
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("d", data=values))
    found = []
    threads = [threading.Thread(target=lambda: found.append(numbers(path, "d"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and all(np.array_equal(each, values) for each in found)
