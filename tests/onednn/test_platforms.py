"""Which library is opened on which operating system, with a loader in place of ctypes'."""

import ctypes
import importlib.metadata
import pathlib

import pytest

from minicaffe.onednn import platforms


class Loader:
    """In place of ctypes.CDLL: records the names; libraries have the functions of oneDNN's or of OpenMP's."""

    def __init__(self):
        self.opened = []

    def __call__(self, name):
        self.opened.append(name)
        if not name.endswith((".dll", ".so.3", ".dylib")):
            raise OSError(f"cannot open {name}")
        functions = ("omp_get_max_threads", "omp_set_num_threads") if name == "vcomp140.dll" else ("dnnl_version",)
        return type("Library", (), {function: f"{function} of {name}" for function in functions})()


@pytest.fixture
def loader(monkeypatch):
    loader = Loader()
    monkeypatch.setattr(ctypes, "CDLL", loader)
    monkeypatch.delenv("MINICAFFE_ONEDNN", raising=False)
    return loader


@pytest.mark.parametrize(
    ("system", "machine", "file", "package"),
    [
        ("linux", "x86_64", "libdnnl.so.3", "onednn-cpu-gomp"),
        ("linux", "aarch64", "libdnnl.so.3", None),
        ("win32", "AMD64", "dnnl.dll", "onednn-cpu-vcomp"),
        ("win32", "ARM64", "dnnl.dll", None),
        ("darwin", "arm64", "libdnnl.3.dylib", None),
        ("darwin", "x86_64", "libdnnl.3.dylib", "onednn-cpu-iomp"),
    ],
)
def test_names_of_each_platform(system, machine, file, package, loader):
    found = platforms.current(system, machine)
    assert found.file == file and found.packages[:1] == ((package,) if package else ())
    assert found.candidates()[-1] == file
    assert (f"pip install {package}" if package else "no PyPI package") in found.advice


def test_openmp_of_windows_is_another_library(loader):
    library = platforms.WINDOWS.open(r"C:\python\Library\bin\dnnl.dll")
    assert loader.opened == [r"C:\python\Library\bin\dnnl.dll", "vcomp140.dll"]
    assert library.dnnl_version == r"dnnl_version of C:\python\Library\bin\dnnl.dll"
    assert library.omp_set_num_threads == "omp_set_num_threads of vcomp140.dll"
    assert library.omp_get_max_threads == "omp_get_max_threads of vcomp140.dll"


def test_openmp_of_linux_is_found_through_onednn(loader):
    platforms.LINUX.open("libdnnl.so.3")
    assert loader.opened == ["libdnnl.so.3"]


def test_file_of_a_package_comes_first(monkeypatch, loader):
    def files(package):
        if package != "onednn-cpu-vcomp":
            raise importlib.metadata.PackageNotFoundError(package)
        paths = map(importlib.metadata.PackagePath, ("../../Library/bin/dnnl.dll", "onednn/LICENSE"))
        return [_located(path) for path in paths]

    def _located(path):
        path.dist = type("Distribution", (), {"locate_file": lambda self, path: pathlib.Path("/python/a/b") / path})()
        return path

    monkeypatch.setattr(importlib.metadata, "files", files)
    assert platforms.WINDOWS.candidates() == ["/python/Library/bin/dnnl.dll", "dnnl.dll"]
    assert platforms.LINUX.candidates() == ["libdnnl.so.3"]


def test_environment_variable_is_the_only_candidate(monkeypatch):
    monkeypatch.setenv("MINICAFFE_ONEDNN", "/some/where.so")
    assert platforms.WINDOWS.candidates() == ["/some/where.so"]
