"""`minicaffe install-shims`: programs and the package `caffe` in a checkout of Caffe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicaffe.cli import shims

posix = pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")

# The first lines of pycaffe's __init__.py and pycaffe.py.
INIT = """from .pycaffe import Net, SGDSolver
from ._caffe import init_log, set_mode_cpu
from ._caffe import __version__
from .proto.caffe_pb2 import TRAIN, TEST
from . import io
from .net_spec import layers, params, NetSpec, to_proto
"""
PYCAFFE = "from ._caffe import Net, SGDSolver\nimport caffe.io\nNet.blobs = property(lambda self: 1 / 0)\n"


@pytest.fixture
def checkout(project):
    """A checkout of Caffe that is not built: the sources of pycaffe, a net and a solver for GPUs."""
    folder = project / "python" / "caffe"
    folder.mkdir(parents=True)
    for name, text in (("__init__", INIT), ("pycaffe", PYCAFFE), ("io", "import skimage.gone\n")):
        (folder / f"{name}.py").write_text(text)
    return project


def shell(line, **variables):
    """Run a line of a shell script, without PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        ["sh", "-c", line], env={**environment, "OMP_NUM_THREADS": "1", **variables}, capture_output=True, text=True
    )


@posix
def test_programs_run_minicaffe_from_the_shell(checkout, run):
    assert run("install-shims", ".")[0] == 0
    done = shell("TOOLS=./build/tools; $TOOLS/caffe train --solver=solver.prototxt $@")
    assert done.returncode == 0 and "Optimization Done." in done.stderr, done.stderr
    assert Path("tiny_iter_8.caffemodel.h5").exists()
    done = shell("build/examples/mnist/convert_mnist_data.bin a b c --backend=lmdb")
    assert done.returncode == 1 and "cannot read a" in done.stderr


@posix
def test_tools_with_positional_arguments(checkout, run):
    assert run("install-shims", ".")[0] == 0
    done = shell("build/tools/train_net.bin solver.prototxt")
    assert done.returncode == 0 and "Optimization Done." in done.stderr, done.stderr
    state = Path("tiny_iter_5.solverstate.h5").rename("5.solverstate.h5")
    weights = Path("tiny_iter_8.caffemodel.h5").rename("8.caffemodel.h5")
    for line, text in (
        (f"train_net solver.prototxt {state}", f"Resuming from {state}"),
        (f"finetune_net solver.prototxt {weights}", "Optimization Done."),
        (f"test_net net.prototxt {weights} 3", "Running for 3 iterations."),
        (f"test_net net.prototxt {weights} 3 CPU", "Running for 3 iterations."),
        ("net_speed_benchmark net.prototxt 2", "Testing for 2 iterations."),
        ("device_query", "Querying GPUs all"),
    ):
        done = shell(f"build/tools/{line}")
        assert done.returncode == 0 and text in done.stderr, (line, done.stderr)
    done = shell(f"build/tools/test_net net.prototxt {weights} 3 GPU 999")
    assert done.returncode == 1 and "GPU" in done.stderr
    done = shell("build/tools/train_net")
    assert done.returncode == 1 and "need a solver definition to train" in done.stderr


SCRIPT = """
import sys
sys.path.insert(0, "python")
import caffe
import caffe.io, caffe.draw, caffe.pycaffe
import caffe.proto.caffe_pb2 as pb
from caffe import layers as L, params as P
from caffe.pycaffe import Net
import minicaffe
assert caffe is sys.modules["caffe"] is minicaffe and Net is minicaffe.Net and caffe.io is minicaffe.io
net = caffe.Net("net.prototxt", caffe.TEST)
print(list(net.blobs)[0], pb.__name__)
"""


def test_import_of_the_sources_in_a_checkout_gives_minicaffe(checkout, run):
    before = {path: path.read_text() for path in checkout.glob("python/caffe/*.py")}
    assert run("install-shims", ".")[0] == 0
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.split() == ["data", "minicaffe.proto.caffe_pb2"], done.stderr
    assert {path: path.read_text() for path in checkout.glob("python/caffe/*.py")} == before


def test_old_names_by_the_environment(checkout, run, monkeypatch):
    assert run("install-shims", ".")[0] == 0
    monkeypatch.setenv("MINICAFFE_RUN_AS_CAFFE", "old_names,cpu,other")
    code = "import sys; sys.path.insert(0, 'python'); import caffe, cPickle; caffe.set_mode_gpu(); print(caffe.TEST)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1\n" and "on the CPU" in done.stderr, done.stderr


def test_import_without_sources(project, run):
    assert run("install-shims", ".")[0] == 0
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.split() == ["data", "minicaffe.proto.caffe_pb2"], done.stderr


def test_another_python_gets_a_sentence(project, run, tmp_path):
    assert run("install-shims", ".")[0] == 0
    (project / "minicaffe.py").write_text("raise ModuleNotFoundError('no numpy')\n")
    code = "import sys; sys.path[:0] = ['.', 'python']; import caffe"
    done = subprocess.run([sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", code],
                          capture_output=True, text=True)  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: this caffe is minicaffe, which") and "cannot import (no numpy)" in last
    assert sys.executable in last


def test_again_gives_the_same_files_and_says_which(checkout, run):
    status, out, _ = run("install-shims", ".")
    assert status == 0 and "wrote caffe, convert_imageset, " in out and "classification" in out and "pycaffe" in out
    files = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    assert sum("build" in path.parts for path in files) == 2 * (len(shims.PROGRAMS) + len(shims.OLD_PROGRAMS))
    assert run("install-shims", ".")[1] == out
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("path", ["build/tools/caffe.bin", "build/examples/cpp_classification/classification",
                                  "python/caffe/_caffe.so", "python/caffe/pycaffe/__init__.py"])  # fmt: skip
def test_a_caffe_that_is_built_stays(checkout, run, path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(b"\x7fELF")
    before = sorted(checkout.rglob("*"))
    status, out, err = run("install-shims", ".")
    assert status == 1 and out == "" and path in err and "nothing was written" in err and err.count("\n") == 1
    assert sorted(checkout.rglob("*")) == before and Path(path).read_bytes() == b"\x7fELF"


@posix
def test_a_link_that_leads_nowhere_is_not_replaced(checkout, run):
    Path("build/tools").mkdir(parents=True)
    os.symlink("caffe.bin", "build/tools/caffe")
    assert run("install-shims", ".")[0] == 1
    assert os.readlink("build/tools/caffe") == "caffe.bin"


def blocked(name, kind, elsewhere):
    """Put a file, a link that leads nowhere or a link to a folder elsewhere at the name of a folder."""
    if kind == "file":
        Path(name).write_text("")
    else:
        os.symlink(elsewhere if kind == "elsewhere" else "gone", name)


@posix
@pytest.mark.parametrize("name", ["build", "build/tools", "python/caffe"])
@pytest.mark.parametrize(
    ("kind", "sentence"), [("file", "is not a folder"), ("gone", "is not a folder"), ("elsewhere", "leads out of '.'")]
)
def test_a_folder_that_is_missing_or_elsewhere(project, run, tmp_path_factory, name, kind, sentence):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Path(name).parent.mkdir(exist_ok=True)
    blocked(name, kind, elsewhere)
    before = sorted(project.rglob("*"))
    status, out, err = run("install-shims", ".")
    assert (status, out) == (1, "") and f"'{name}' {sentence}" in err and "nothing was written" in err
    assert err.count("\n") == 1 and sorted(project.rglob("*")) == before and not list(elsewhere.iterdir())


@posix
def test_links_within_the_checkout_are_followed(project, run):
    """CMake's build folder is often a link to one of several."""
    Path("release").mkdir()
    os.symlink("release", "build")
    assert run("install-shims", ".")[0] == 0
    assert os.readlink("build") == "release" and Path("release/tools/caffe").exists()


def test_a_package_of_another_form_stays(checkout, run):
    Path("python/caffe/__init__.py").write_text("import numpy\nfrom .pycaffe import Net\n")
    status, _, err = run("install-shims", ".")
    assert status == 1 and "python/caffe/__init__.py' exists" in err and not Path("build").exists()


def test_wrong_folders(project, run):
    assert "there is no folder 'nowhere'" in run("install-shims", "nowhere")[2]
    assert "give the folder of a Caffe checkout, or --command" in run("install-shims")[2]


@posix
def test_the_command_caffe(project, run, monkeypatch):
    scripts = project / "a folder" / "bin"
    scripts.mkdir(parents=True)
    monkeypatch.setattr(shims, "_scripts", lambda: scripts)
    status, out, _ = run("install-shims", "--command")
    assert status == 0 and f"wrote caffe in {scripts}" in out and f"put {scripts} first on PATH" in out
    monkeypatch.setenv("PATH", str(scripts), prepend=os.pathsep)
    assert "PATH" not in run("install-shims", "--command")[1]
    assert shell("caffe --version").stdout.startswith("minicaffe version")
    (scripts / "caffe").write_text("#!/bin/sh\n")
    status, _, err = run("install-shims", "--command")
    assert status == 1 and "is not from this command" in err


@pytest.mark.parametrize("python", [r"C:\Users\me\python.exe", r"C:\new\x\python.exe", "a\"b'c{d}/python"])
def test_the_package_compiles_with_any_path_of_python(tmp_path, monkeypatch, python):
    monkeypatch.setattr(sys, "executable", python)
    (text,) = shims._package(tmp_path).values()
    names = {}
    exec(compile(text.partition("\ntry:")[0], "caffe", "exec"), names)
    assert names["PYTHON"] == python and compile(text, "caffe", "exec")


def test_programs_for_windows(monkeypatch):
    monkeypatch.setattr(sys, "executable", r"C:\a b\python.exe")
    files = shims._programs(Path("build"), windows=True)
    assert {path.suffix for path in files} == {".cmd"} and len(files) == len(shims.PROGRAMS)
    text = files[Path("build/tools/convert_imageset.cmd")]
    assert text.endswith('@"C:\\a b\\python.exe" -m minicaffe convert_imageset %*\r\n') and shims._MARK in text
