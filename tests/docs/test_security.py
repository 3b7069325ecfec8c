"""The claims of SECURITY.md that no other test proves."""

import ast
import functools
import re

import h5py
import numpy as np
import pytest
from PIL import Image

import minicaffe
from house.imports import ROOT, SCRIPTS, modules
from minicaffe import limits
from minicaffe.proto import caffe_pb2

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
TEXTS = {
    name: path.read_text(encoding="utf-8") for name, path in modules().items() if name.split(".")[0] not in SCRIPTS
}


@functools.cache
def imports_and_calls():
    """By module: the names that it imports, and those that it calls, with "()" behind them."""
    found = {name: set() for name in TEXTS}
    for name, text in TEXTS.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found[name].update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found[name].add(node.module or "")
            elif isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                found[name].add(f"{ast.unparse(node.func)}()")
    return found


def modules_with(pattern):
    """The modules with an import or a call that matches a pattern."""
    return {name for name, names in imports_and_calls().items() if any(re.fullmatch(pattern, each) for each in names)}


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"(urllib|http|ssl|ftplib|socketserver|xmlrpc)(\..*)?|socket.socket\(\)|socket.create_connection\(\)",
         {"minicaffe.data.datasets.download", "minicaffe.cli.quickdata", "minicaffe.parallel.joining",
          "minicaffe.parallel.launcher"}),
        (r"subprocess|multiprocessing|os\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*)\(\)",
         {"minicaffe.cuda.compilers", "minicaffe.parallel.launcher", "minicaffe.parallel.local"}),
        (r"_?pickle|marshal|shelve|dill|joblib|yaml",
         {"minicaffe.data.datasets.pickled", "minicaffe.old_names.python2"}),  # the last for a script's own cPickle
        (r"eval\(\)|exec\(\)|__import__\(\)|runpy\.\w+\(\)", {"minicaffe.run_as_caffe"}),
        (r"tarfile|zipfile|.*\.(extractall|unpack_archive)\(\)", set()),
        (r"importlib\.import_module\(\)",
         {"minicaffe", "minicaffe.cli.command", "minicaffe.core.registry", "minicaffe.core.alias",
          "minicaffe.layers.shared.python_class"}),  # all but the last import minicaffe's own modules
        (r"lmdb", {"minicaffe.data.lmdb_store"}),
        (r"xml\.(parsers|dom)(\..*)?|lxml.*|(ElementTree|ET)\.\w+\(\)|(iterparse|XMLParser)\(\)",
         {"minicaffe.data.annotations.xml_file"}),
    ],
    ids=["network", "programs", "pickles", "code", "archives", "imports", "lmdb", "xml"],
)  # fmt: skip
def test_only_these_modules(pattern, allowed):
    assert modules_with(pattern) == allowed


def test_every_limit_is_on_the_page():
    in_code = set(re.findall(r"MINICAFFE_MAX_\w+", TEXTS["minicaffe.limits"]))
    assert in_code == set(re.findall(r"MINICAFFE_MAX_\w+", PAGE))
    assert limits.MAX_COUNT == 2**31 - 1


def test_no_array_of_objects_is_loaded():
    assert not [name for name, text in TEXTS.items() if "allow_pickle=True" in text]


def test_paths_of_a_prototxt_are_used_with_the_users_rights(tmp_path, monkeypatch):
    """A net reads and writes files anywhere."""
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    for folder in (elsewhere, here):
        folder.mkdir()
    monkeypatch.chdir(here)
    Image.fromarray(np.full((2, 2, 3), 7, np.uint8)).save(elsewhere / "x.png")
    (elsewhere / "list").write_text("x.png 3\n")
    (here / "net.prototxt").write_text(f"""
        layer {{ name: "in" type: "ImageData" top: "x" top: "y"
                 image_data_param {{ source: "../elsewhere/list" root_folder: "{elsewhere}/" batch_size: 1 }} }}
        layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "y"
                 hdf5_output_param {{ file_name: "{elsewhere}/out.h5" }} }}""")
    net = minicaffe.Net("net.prototxt", minicaffe.TEST)
    assert not (elsewhere / "out.h5").exists()  # only a pass writes
    net.forward()
    with h5py.File(elsewhere / "out.h5") as file:
        assert (file["data"][()] == 7).all() and file["label"][0] == 3


@pytest.mark.parametrize("show", [True, False])
def test_layers_in_weights_are_not_built(tmp_path, run, show):
    (tmp_path / "net.prototxt").write_text(
        'input: "x" input_shape { dim: 1 dim: 2 } layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" '
        "inner_product_param { num_output: 1 } }"
    )
    stored = caffe_pb2.NetParameter()
    stored.layer.add(name="evil", type="Python").python_param.module = "module_of_weights"
    layer = stored.layer.add(name="ip", type="InnerProduct")
    for shape in ([1, 2], [1]):
        layer.blobs.add(data=[1.0] * len(shape)).shape.dim.extend(shape)
    (tmp_path / "w.caffemodel").write_bytes(stored.SerializeToString())
    if show:
        assert run("show", tmp_path / "w.caffemodel", tmp_path / "o.png")[0] == 0
        return
    net = minicaffe.Net(str(tmp_path / "net.prototxt"), minicaffe.TEST)
    net.copy_from(str(tmp_path / "w.caffemodel"))
    assert list(net.params) == ["ip"] and (net.params["ip"][0].data == 1).all()
