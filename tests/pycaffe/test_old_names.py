"""`run_as_caffe --old-names`: names that numpy, SciPy, scikit-image and Python have removed, in that process alone."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe
from minicaffe.old_names import arrays, images, python2

ROOT = Path(minicaffe.__file__).resolve().parent.parent


def run(*words, cwd=None, **variables):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return subprocess.run(
        [sys.executable, "-m", "minicaffe.run_as_caffe", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


SCRIPT = r"""
import cPickle, StringIO, itertools, sys
from cStringIO import StringIO as Buffer
import numpy as np
import scipy.misc
from scipy.misc import imread, imresize, imsave
import caffe

assert np.float is float and np.int is int and np.object is object and np.zeros(2, np.float).dtype == np.float64
assert np.zeros(2, np.bool).dtype == bool and np.isnan(np.NaN)
values = np.fromstring(b"\x01\x02\x03", dtype=np.uint8)
values[0] = 9
assert values.tolist() == [9, 2, 3] and np.fromstring("\x00\xff", np.uint8, 1).tolist() == [0]
assert np.fromstring("1 2", dtype=int, sep=" ").tolist() == [1, 2]

imsave("a.png", np.arange(48).reshape(4, 4, 3).astype(np.uint8))
assert (imread("a.png") == np.arange(48).reshape(4, 4, 3)).all()
assert imresize(imread("a.png"), (2, 8)).shape == (2, 8, 3) and scipy.misc.imread("a.png", flatten=True).ndim == 2

assert list(itertools.izip(xrange(2), "ab")) == [(0, "a"), (1, "b")] and isinstance("", basestring)
assert cPickle.loads(cPickle.dumps([1])) == [1] and cPickle.HIGHEST_PROTOCOL > 1
with open("x.pkl", "wb") as file:
    cPickle.dump({"a": 1}, file, protocol=cPickle.HIGHEST_PROTOCOL)
assert cPickle.load(open("x.pkl")) == {"a": 1}
assert StringIO.StringIO("ab").read() == "ab" and Buffer(b"ab").read() == b"ab"

net = caffe.Net(sys.argv[1], caffe.TEST)
assert [name for name, blob in net.blobs.iteritems()] == ["data", "ip"]
assert [len(p) for p in net.params.itervalues()] == [2] and net.params.has_key("ip") and not net.params.has_key("x")
print("all names are there")
"""
NET = """input: "data" input_shape { dim: 1 dim: 2 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def test_a_script_of_caffes_time(folder):
    done = run("--old-names", "script.py", "net.prototxt", cwd=folder)
    assert done.stdout == "all names are there\n", done.stderr


def test_a_process_that_the_script_starts(folder):
    code = "import caffe, cPickle, numpy; print(numpy.float)"
    (folder / "parent.py").write_text(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])")
    assert run("--old-names", "parent.py", cwd=folder).stdout == "<class 'float'>\n"
    assert "No module named 'cPickle'" in run("parent.py", cwd=folder).stderr


def test_without_the_flag_nothing_changes(folder):
    code = """
import builtins, itertools, sys
import caffe, minicaffe
from minicaffe.core.containers import ReadOnlyDict
import numpy as np
print("xrange" in vars(builtins), "izip" in vars(itertools), hasattr(ReadOnlyDict, "iteritems"), "float" in vars(np),
      "minicaffe.old_names" in sys.modules, hasattr(np.fromstring, "__wrapped__"))
"""
    assert run("-c", code, cwd=folder).stdout.split() == ["False"] * 3 + [str("float" in vars(np)), "False", "False"]
    assert "cPickle" in run("script.py", "net.prototxt", cwd=folder).stderr


def test_names_that_exist_are_kept(folder):
    """Modules of a library, and of the script's own folder, are found before the stand-ins."""
    (folder / "scipy").mkdir()
    (folder / "scipy" / "__init__.py").write_text("HERE = 1\n")
    (folder / "scipy" / "misc.py").write_text("def imread(name):\n    return 'the own imread'\n")
    (folder / "cPickle.py").write_text("pass\n")
    (folder / "s.py").write_text(
        "import inspect, cPickle, scipy.misc as m\n"
        "print(m.imread(''), m.imsave.__module__, cPickle.__file__, m.__doc__)\n"
        "print(inspect.getsource(m))\n"
    )
    done = run("--old-names", "s.py", cwd=folder)
    first, *source = done.stdout.splitlines()
    assert first == f"the own imread minicaffe.old_names.images {folder / 'cPickle.py'} None", done.stderr
    assert source[0] == "def imread(name):"


def test_what_is_missing_stays_missing(folder):
    done = run("--old-names", "-c", "import minicaffe.nowhere", cwd=folder)
    assert "No module named 'minicaffe.nowhere'" in done.stderr
    if importlib.util.find_spec("scipy") is None:
        done = run("--old-names", "-c", "import scipy.misc, scipy.ndimage", cwd=folder)
        assert "No module named 'scipy.ndimage'" in done.stderr


def test_as_grey_of_scikit_image(folder):
    (folder / "skimage" / "io").mkdir(parents=True)
    (folder / "skimage" / "__init__.py").write_text("")
    (folder / "skimage" / "io" / "__init__.py").write_text("from ._io import imread\n")
    (folder / "skimage" / "io" / "_io.py").write_text("def imread(fname, as_gray=False):\n    return fname, as_gray\n")
    (folder / "s.py").write_text(
        "import skimage.io; print(skimage.io.imread('a', as_grey=True), skimage.io.imread('b'), "
        "skimage.io.imread('c', as_gray=True))"
    )
    assert run("--old-names", "s.py", cwd=folder).stdout == "('a', True) ('b', False) ('c', True)\n"


def test_pandas_and_scikit_learn(folder):
    """Modules of the present interface, in place of the libraries."""
    (folder / "pandas.py").write_text("""
import numpy
class DataFrame:
    def sort_index(self): return "by index"
    def sort_values(self, by, ascending=True): return by, ascending
    def to_hdf(self, path_or_buf, *, key, mode="a"): print(path_or_buf, key, mode)
class Series:
    def sort_values(self, inplace=False, ascending=True): return inplace or ascending
    def to_numpy(self): return numpy.arange(2)
    def __getitem__(self, key): return key
""")
    (folder / "sklearn").mkdir()
    (folder / "sklearn" / "__init__.py").write_text("")
    (folder / "sklearn" / "linear_model.py").write_text("""
class SGDClassifier:
    def __init__(self, loss="hinge", max_iter=1000, tol=1e-3): print(loss, max_iter, tol)
""")
    (folder / "s.py").write_text("""
import inspect, pandas, sklearn.linear_model
frame, series = pandas.DataFrame(), pandas.Series()
print(frame.sort(), frame.sort("a", ascending=False), series.sort(), series.order(ascending=False))
frame.to_hdf("f", "df", mode="w")
print(series[:, None].tolist(), series["a", "b"])
sklearn.linear_model.SGDClassifier(loss="log", n_iter=7)
sklearn.linear_model.SGDClassifier()
print(list(inspect.signature(sklearn.linear_model.SGDClassifier.__init__).parameters))
""")
    done = run("--old-names", "s.py", cwd=folder)
    assert done.stdout.splitlines() == [
        "by index ('a', False) None False", "f df w", "[[0], [1]] ('a', 'b')", "log_loss 7 None", "hinge 1000 0.001",
        "['self', 'loss', 'max_iter', 'tol']",
    ], done.stderr  # fmt: skip


def test_lines_and_temporary_files(folder):
    (folder / "names.txt").write_text("a cat\na dog\n")
    (folder / "s.py").write_text("""
import tempfile
import numpy as np
print(np.loadtxt("names.txt", str, delimiter="\\n").tolist(), np.loadtxt(["1,2"], delimiter=",").tolist())
with tempfile.NamedTemporaryFile() as file:
    file.write("text")
    file.write(b"bytes")
    file.flush()
    print(open(file.name, "rb").read())
with tempfile.NamedTemporaryFile(mode="w") as file:
    file.write("text")
""")
    done = run("--old-names", "s.py", cwd=folder)
    assert done.stdout == "['a cat', 'a dog'] [1.0, 2.0]\nb'textbytes'\n", done.stderr


def test_flags(folder):
    for words, text in (
        (["--old-names"], "expected a script, -m or -c after the flags"),
        (["--old-name", "script.py"], "has no flag '--old-name' (did you mean \"--old-names\"?)"),
    ):
        done = run(*words, cwd=folder)
        assert done.returncode == 1 and text in done.stderr
    code = "import caffe; caffe.set_device(0); caffe.set_mode_gpu(); caffe.Net('net.prototxt', caffe.TEST).forward()"
    done = run("--old-names", "--cpu", "-c", code, cwd=folder)
    assert done.returncode == 0 and "set_mode_gpu() computes on the CPU, because of run_as_caffe --cpu" in done.stderr


# -- the functions -----------------------------------------------------------------------------------------------------


def test_bytes_are_stretched_as_in_scipy():
    """Values computed by the formula of scipy.misc.bytescale: (x - min) * 255 / (max - min), rounded half up."""
    assert images.bytescale(np.array([[0.0, 0.5], [1.0, 0.25]])).tolist() == [[0, 128], [255, 64]]
    assert images.bytescale(np.array([2.0, 4.0]), cmin=0, cmax=8).tolist() == [64, 128]
    assert images.bytescale(np.array([3, 3])).tolist() == [0, 0]
    assert images.bytescale(np.array([7, 9], np.uint8)).tolist() == [7, 9]


def test_sizes():
    image = np.zeros((10, 20, 3), np.uint8)
    assert images.imresize(image, 50).shape == (5, 10, 3)
    assert images.imresize(image, 0.5).shape == (5, 10, 3)
    assert images.imresize(image[:, :, 0], (7, 9), "nearest").shape == (7, 9)
    assert images.imresize(np.ones((4, 4)) * 0.3, (2, 2), mode="F").tolist() == [[np.float32(0.3)] * 2] * 2
    step = np.repeat(np.array([0, 255], np.uint8), 2)[None]
    assert images.imresize(step, (1, 2)).tolist() == np.asarray(Image.fromarray(step).resize((2, 1), 2)).tolist()


def test_channels_and_palettes(tmp_path):
    planes = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    assert (np.asarray(images.toimage(planes)) == planes.transpose(1, 2, 0)).all()
    assert images.toimage(np.zeros((4, 5, 4), np.uint8)).mode == "RGBA"
    with pytest.raises(ValueError, match=r"with 3 or 4 channels, got shape \(2, 5, 6\)"):
        images.toimage(np.zeros((2, 5, 6)))
    Image.fromarray(planes[0]).convert("P").save(tmp_path / "p.png")
    assert images.imread(tmp_path / "p.png").shape == (4, 5, 3)
    Image.fromarray(planes[0]).convert("1").save(tmp_path / "1.png")
    assert images.imread(tmp_path / "1.png").dtype == np.uint8
    assert images.imread(tmp_path / "p.png", mode="L").shape == (4, 5)
    assert images.imread(tmp_path / "p.png", flatten=True).dtype == np.float32


def test_pickles_of_python_2():
    """A dict with a str and an array, as Python 2 and its numpy wrote it (protocol 0)."""
    data = (
        b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\n"
        b"Rp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\n"
        b"tp14\nbI00\nS'\\xff\\x07'\np15\ntp16\nbs."
    )
    read = python2._loads(data)
    assert read["data"].tolist() == [255, 7]


def test_fromstring_of_bytes_is_a_copy():
    read = arrays._reading_bytes(np.fromstring)
    data = bytearray(b"ab")
    values = read(data, dtype=np.uint8)
    data[0] = 0
    assert values.tolist() == [97, 98] and values.flags.writeable
