"""The source distribution has every file of the repository, and a wheel made from it has the checkout's files."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from house.imports import ROOT
from minicaffe import __version__

pytest.importorskip("setuptools", "70.1")  # the first that makes wheels by itself

CALL = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
MADE = ("PKG-INFO", "minicaffe.egg-info/")  #: what setuptools adds


def build(kind, source, output):
    """Build "sdist" or "wheel" from a folder; return the path of the file."""
    command = [sys.executable, "-c", CALL, f"build_{kind}", str(output)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output / done.stdout.splitlines()[-1]


def repository():
    """The files that git has; skips where this is no clone."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no clone of the repository")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return sorted(name for name in names.decode().split("\0") if name and (ROOT / name).exists())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository's files, and some that are made when it is used."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in repository():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in (
        "models/lenet/lenet_iter_10.caffemodel", "models/lenet/lenet_iter_10.solverstate.h5", "runs/quickstart/log.txt",
        "models/lenet/__pycache__/x.cpython-312.pyc", "data/mnist/mnist_train_lmdb/data.mdb",
        "build/lib/minicaffe/old.py", "models/lenet/lenet_iter_10.runstate", "models/lenet/mean.binaryproto",
        ".venv/bin/python", "site/index.html",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_source_distribution_and_its_wheel(checkout, tmp_path):
    archive = build("sdist", checkout, tmp_path)
    prefix = f"minicaffe-{__version__}/"
    with tarfile.open(archive) as tar:
        names = [member.name.removeprefix(prefix) for member in tar.getmembers() if member.isfile()]
        tar.extractall(tmp_path, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(tmp_path)
    assert sorted(name for name in names if not name.startswith(MADE)) == repository()

    shutil.rmtree(checkout / "build")
    wheels = [build("wheel", source, tmp_path / kind) for kind, source in
              (("unpacked", tmp_path / prefix), ("cloned", checkout))]  # fmt: skip
    unpacked, cloned = ({name: zipfile.ZipFile(wheel).read(name) for name in zipfile.ZipFile(wheel).namelist()}
                        for wheel in wheels)  # fmt: skip
    assert unpacked == cloned
    assert {"minicaffe/layers/relu.py", "minicaffe/models/lenet/solver.prototxt"} < set(unpacked)
    assert not [name for name in unpacked if name.startswith(("tests/", "tools/", "layers/"))]


def test_the_citation_has_the_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
