"""MatWrite: the files, byte by byte, and which pass writes which."""

import struct

import numpy as np
import pytest

from minicaffe.errors import DataError, LayerError
from minicaffe.proto import caffe_pb2, parse_text, upgrade_net
from minicaffe.testing import build_layer

pytestmark = pytest.mark.layers("MatWrite")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def writer(text, *arrays, dtype=np.float32):
    layer, bottom, _ = build_layer(f"type: 'MatWrite' mat_write_param {{ {text} }}", *arrays, num_top=0, dtype=dtype)
    return lambda: layer.forward(bottom, []), layer


def read(path):
    """The array of a file, its axes in MATLAB's order."""
    content = path.read_bytes()
    assert content[:10] == b"MATLAB 5.0" and content[124:128] == b"\0\x01IM"
    kind, length = struct.unpack_from("<II", content, 128)
    assert kind == 14 and length == len(content) - 136
    parts, at = [], 136
    while at < len(content):
        kind, length = struct.unpack_from("<II", content, at)
        parts.append((kind, content[at + 8 : at + 8 + length]))
        at += 8 + length + -length % 8
    (flags, shape, name, (kind, values)) = parts
    assert (flags[0], shape[0], name) == (6, 5, (1, b"data"))
    dtype = {7: "f4", 9: "f8"}[kind]
    assert flags[1] == struct.pack("<II", {"f4": 7, "f8": 6}[dtype], 0)
    return np.frombuffer(values, dtype).reshape(np.frombuffer(shape[1], "i4"), order="F")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_has_its_axes_in_reverse_order(folder, dtype, engine):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(dtype)
    forward, _ = writer("prefix: 'a_'", x, x[:1, :1] * 2, dtype=dtype)
    forward()
    np.testing.assert_array_equal(read(folder / "a_iter_0_blob_0.mat"), x.transpose(3, 2, 1, 0))
    np.testing.assert_array_equal(read(folder / "a_iter_0_blob_1.mat"), 2 * x[:1, :1].transpose(3, 2, 1, 0))
    scipy = pytest.importorskip("scipy.io")
    np.testing.assert_array_equal(scipy.loadmat("a_iter_0_blob_0.mat")["data"], x.transpose(3, 2, 1, 0))


def test_names_of_a_list_a_period_and_a_state(folder):
    (folder / "list").write_text("one.jpg 1\ntwo.jpg\n\nthree.jpg\n")
    forward, layer = writer("prefix: './' source: 'list' strip: 4 period: 2", np.ones((1, 1, 2, 2)))
    state = layer.state()
    for _ in range(3):
        forward()
    written = {"one_blob_0.mat", "three_blob_0.mat"}
    assert {path.name for path in folder.glob("*.mat")} == written
    forward()  # a pass that writes nothing needs no name
    with pytest.raises(DataError, match="MatWrite layer 'layer': list has no name for pass 5"):
        forward()
    layer.load_state({**state, "passes": 2})
    (folder / "three_blob_0.mat").unlink()
    forward()
    assert {path.name for path in folder.glob("*.mat")} == written


@pytest.mark.parametrize(("text", "words"), [
    ("", "must have a prefix, a period of at least 1 and a strip of at least 0, got '', 1 and 0"),
    ("prefix: 'a' period: 0", "got 'a', 0 and 0"),
    ("prefix: 'a' source: 'list' strip: 3", "strip must be less than the length of each name, got 3 for ab"),
])  # fmt: skip
def test_what_is_refused(folder, text, words):
    (folder / "list").write_text("abcd\nab\n")
    with pytest.raises(LayerError, match=f"MatWrite layer 'layer': .*{words}"):
        writer(text, np.ones((1, 1, 2, 2)))


def test_a_folder_that_does_not_exist():
    forward, _ = writer("prefix: 'nowhere/'", np.ones((1, 1, 2, 2)))
    with pytest.raises(DataError, match="nowhere/iter_0_blob_0.mat"):
        forward()


def test_the_old_format():
    text = "layers { name: 'm' type: MAT_WRITE strict_dim: false mat_write_param { prefix: 'a' } }"
    (layer,) = upgrade_net(parse_text(text, caffe_pb2.NetParameter())).layer
    assert layer.type == "MatWrite" and layer.mat_write_param.prefix == "a"


def test_a_missing_list_is_an_error_of_the_layer(tmp_path):
    with pytest.raises(LayerError, match="^MatWrite layer 'layer': cannot read list of names"):
        text = f"type: 'MatWrite' mat_write_param {{ prefix: 'x' source: '{tmp_path}/none' }}"
        build_layer(text, np.zeros((1, 1, 2, 2)), num_top=0)
