"""Whose code may run: Python layers by name, and modules in the working folder of `python -m minicaffe`."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import minicaffe
from minicaffe.core import python_layers
from minicaffe.errors import LayerError, UsageError

ROOT = Path(minicaffe.__file__).resolve().parent.parent
LAYER = """
import caffe

class Same(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff
"""
NET = """name: "net"
layer { name: "in" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "one" type: "Python" bottom: "x" top: "y" python_param { module: "foreign_layers" layer: "Same" } }
layer { name: "two" type: "Python" bottom: "y" top: "z" python_param { module: "foreign_layers" layer: "Same" } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "bn" }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "z" top: "loss" }
"""
DEPLOY = """input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
layer { name: "one" type: "Python" bottom: "x" top: "y" python_param { module: "foreign_layers" layer: "Same" } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "bn" }
layer { name: "ip" type: "InnerProduct" bottom: "bn" top: "ip" inner_product_param { num_output: 2 } }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "s"'
REFUSED = ("the module 'foreign_layers' that it names may not be imported here: allow it with --python-layers "
           "foreign_layers or minicaffe.allow_python_layers(['foreign_layers'])")  # fmt: skip


@pytest.fixture(autouse=True)
def rule_restored():
    with python_layers.following(python_layers.Rule()):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working folder with a net of Python layers, and the module that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name, text in (("net.prototxt", NET), ("deploy.prototxt", DEPLOY), ("solver.prototxt", SOLVER)):
        (tmp_path / name).write_text(text)
    (tmp_path / "foreign_layers.py").write_text(LAYER)
    had = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - had:
        if name.partition(".")[0] in ("foreign_layers", "foreign_package", "caffe"):
            del sys.modules[name]


def build():
    return minicaffe.Net("net.prototxt", minicaffe.TEST)


# -- in Python ---------------------------------------------------------------------------------------------------------


def test_all_are_allowed_by_default(folder):
    assert len(build().layers) == 6  # with the Split layer


@pytest.mark.parametrize("what", [False, [], ["other"], ["foreign"], ["foreign_layers.x"], "other"])
def test_refused_before_the_import(folder, what):
    minicaffe.allow_python_layers(what)
    with pytest.raises(LayerError) as caught:
        build()
    assert str(caught.value) == f"Python layer 'one': {REFUSED}"
    assert "foreign_layers" not in sys.modules


@pytest.mark.parametrize("what", [True, ["foreign_layers"], "foreign_layers", ("a", "foreign_layers")])
def test_allowed(folder, what):
    minicaffe.allow_python_layers(False)
    minicaffe.allow_python_layers(what)
    build()


def test_a_package_allows_its_submodules(folder):
    (folder / "foreign_package").mkdir()
    (folder / "foreign_package" / "inner.py").write_text(LAYER)
    (folder / "net.prototxt").write_text(NET.replace("foreign_layers", "foreign_package.inner"))
    minicaffe.allow_python_layers(["foreign_package"])
    build()
    minicaffe.allow_python_layers(["foreign_package.inner.deeper"])
    with pytest.raises(LayerError, match="may not be imported here"):
        build()


def test_imported_already_is_no_leave(folder):
    build()
    minicaffe.allow_python_layers(False)
    with pytest.raises(LayerError, match="may not be imported here"):
        build()


def test_for_all_threads(folder):
    minicaffe.allow_python_layers(False)
    errors = []

    def work():
        try:
            build()
        except LayerError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(errors) == 1


@pytest.mark.parametrize("what", [[1], [""], [None]])
def test_what_is_no_name(what):
    with pytest.raises(UsageError, match="allow_python_layers: expected True, False or names of modules"):
        minicaffe.allow_python_layers(what)


# -- on the command line -----------------------------------------------------------------------------------------------

IMAGE_FLAGS = ("--model_def", "deploy.prototxt", "--pretrained_model", "w.caffemodel")
#: Commands that build nets: words, and whether the net may be another person's.
COMMANDS = {
    "train": (("train", "--solver", "solver.prototxt"), False),
    "time": (("time", "--model", "net.prototxt", "--iterations", "1"), True),
    "test": (("test", "--model", "net.prototxt", "--weights", "w.caffemodel", "--iterations", "1"), True),
    "calibrate": (("calibrate", "--solver", "solver.prototxt", "--weights", "w.caffemodel", "out.caffemodel",
                   "--iterations", "1"), True),
    "extract_features": (("extract_features", "w.caffemodel", "net.prototxt", "z", "db", "1", "leveldb"), True),
    "infer": (("infer", "deploy.prototxt", "w.caffemodel", "image.png"), True),
    "classify": (("classify", "image.npy", "out.npy", *IMAGE_FLAGS, "--images_dim", "4,4"), True),
    "detect": (("detect", "w.csv", "out.csv", *IMAGE_FLAGS, "--context_pad", "0"), True),
    "show": (("show", "w.caffemodel", "o.png", "--model", "deploy.prototxt", "--image", "image.png"), True),
    "export": (("export", "deploy.prototxt", "w.caffemodel", "w.safetensors"), True),
    "fold": (("fold", "deploy.prototxt", "w.caffemodel", "folded"), True),
}  # fmt: skip


@pytest.fixture
def inputs(folder):
    """Weights and an image for the commands."""
    import numpy as np
    from PIL import Image

    minicaffe.Net("deploy.prototxt", minicaffe.TEST).save("w.caffemodel")
    np.save("image.npy", np.zeros((1, 4, 4, 3), np.float32))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("image.png")
    (folder / "w.csv").write_text("filename,ymin,xmin,ymax,xmax\nimage.png,0,0,4,4\n")
    del sys.modules["foreign_layers"]
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_builds_nets_can_refuse_them(inputs, run, name):
    words, _ = COMMANDS[name]
    for flags in (["--no-python-layers"], ["--python-layers", "other,others"]):
        status, _, err = run(*words, *flags)
        assert status == 1 and f"minicaffe: Python layer 'one': {REFUSED}\n" in err
        assert "foreign_layers" not in sys.modules
    assert run(*words, "--python-layers", "other, foreign_layers")[0] == 0
    assert python_layers.rule() == python_layers.Rule()


@pytest.mark.parametrize("name", COMMANDS)
def test_one_line_before_the_first_import(inputs, run, name, monkeypatch):
    words, warns = COMMANDS[name]
    (inputs / "foreign_layers.py").write_text("import sys; print('IMPORTED', file=sys.stderr)\n" + LAYER)
    logger = logging.getLogger("minicaffe")
    monkeypatch.setattr(logger, "propagate", False)  # without pytest's handlers
    status, _, err = run(*words)
    assert status == 0
    lines = [line for line in err.splitlines() if "runs the code of module" in line]
    assert len(lines) == 1 and err.index(lines[0]) < err.index("IMPORTED")
    assert f"Python layer 'one' runs the code of module 'foreign_layers' ({inputs / 'foreign_layers.py'})" in lines[0]
    assert "--no-python-layers" in lines[0]
    assert lines[0].startswith("I" if not warns else ("W", "Python layer"))


def test_a_check_that_refuses_them_reports_it(inputs, run):
    status, out, _ = run("check", "--solver", "solver.prototxt", "--no-python-layers")
    assert status == 1 and "error net-invalid" in out and "Python layer 'one'" in out
    assert "foreign_layers" not in sys.modules


def test_both_flags(inputs, run):
    status, _, err = run(*COMMANDS["time"][0], "--no-python-layers", "--python-layers", "a")
    assert status == 1 and "give --no-python-layers or --python-layers, but not both" in err


def test_a_rule_of_the_process_holds_for_commands(inputs, run):
    minicaffe.allow_python_layers(False)
    assert run(*COMMANDS["time"][0])[0] == 1
    assert not python_layers.rule().permits("foreign_layers")


@pytest.mark.parametrize("words", [("summarize", "net.prototxt"), ("draw", "net.prototxt", "o.svg"),
                                   ("upgrade_net_proto_text", "net.prototxt", "n.prototxt")])  # fmt: skip
def test_commands_that_build_no_net_import_nothing(folder, run, words):
    assert run(*words)[0] == 0
    assert "foreign_layers" not in sys.modules


# -- the working folder ------------------------------------------------------------------------------------------------

HOSTILE = ("__future__", "argparse", "cuda", "google", "h5py", "json", "lmdb", "logging", "matplotlib", "numpy",
           "onednn", "pathlib", "PIL", "pycuda", "pydot")  # fmt: skip


def python(*words, **environment):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


@pytest.fixture
def hostile(folder):
    """The folder, with modules named like libraries."""
    for name in HOSTILE:
        (folder / f"{name}.py").write_text("import sys; print('HOSTILE', file=sys.stderr); sys.exit(3)\n")
    return folder


TIME = ("time", "--model", "net.prototxt", "--iterations", "1")


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "minicaffe"),
        ("-mminicaffe",),
        ("-X", "dev", "-W", "ignore", "-Bm", "minicaffe"),
        (str(ROOT / "tools" / "train.py"), "--solver", "solver.prototxt"),
    ],
    ids=["-m", "attached", "options", "tool"],
)
def test_the_working_folder_shadows_no_library(hostile, words):
    """Python layers are found in it all the same."""
    done = python(*words, *(TIME if "--solver" not in words else ()))
    assert done.returncode == 0, done.stderr
    assert "HOSTILE" not in done.stderr
    assert f"runs the code of module 'foreign_layers' ({hostile / 'foreign_layers.py'})" in done.stderr


def test_the_tools_find_libraries_first(hostile):
    for tool in ("summarize.py", "draw_net.py"):
        done = python(str(ROOT / "tools" / tool), "net.prototxt", *(["o.svg"] if tool == "draw_net.py" else []))
        assert done.returncode == 0 and "HOSTILE" not in done.stderr, done.stderr


def test_in_a_checkout_without_installation(monkeypatch):
    monkeypatch.chdir(ROOT)
    done = python("-m", "minicaffe", "summarize", "models/lenet/deploy.prototxt", PYTHONPATH="")
    assert done.returncode == 0 and "conv1" in done.stdout


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (("-m", "minicaffe.run_as_caffe", "-m", "where"), True),
        (("-c", "import minicaffe, where"), True),
        (("where.py", "-m", "minicaffe"), True),
    ],
)
def test_other_programs_keep_their_path(folder, words, first):
    (folder / "where.py").write_text(
        "import os, sys, minicaffe; print(os.path.realpath(sys.path[0] or '.') == os.path.realpath('.'))"
    )
    done = python(*words)
    assert done.stdout.strip() == str(first), done.stderr


def test_a_safe_path_is_left_alone(folder):
    if not hasattr(sys.flags, "safe_path"):
        pytest.skip("-P is of Python 3.11")
    done = python("-P", "-m", "minicaffe", *TIME)
    assert done.returncode == 0, done.stderr
