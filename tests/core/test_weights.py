"""Weights in files: what is written is read again, and what does not fit gives an error of one sentence."""

import logging
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text
from minicaffe import files
from minicaffe.errors import SnapshotError
from minicaffe.pictures import show
from minicaffe.proto import caffe_pb2, parse_text

NET = """
name: "n" layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "a/one" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


def net(text=NET):
    return net_from_text(text, minicaffe.TEST)


def values(made):
    return [blob.data.copy() for blobs in made.params.values() for blob in blobs]


@pytest.fixture
def trained():
    made = net()
    for blobs in made.params.values():
        blobs[1].data[...] = np.random.default_rng(0).standard_normal(4)
    return made


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_round_trip(trained, tmp_path, kind):
    path = str(tmp_path / "w.caffemodel")
    trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    other = net()
    other.copy_from(path)  # HDF5 is recognised by its content, whatever the name
    for a, b in zip(values(other), values(trained)):
        np.testing.assert_array_equal(a, b)


def test_hdf5_layout(trained, tmp_path):
    path = tmp_path / "w.caffemodel.h5"
    trained.params["b"][0].diff[...] = 3
    trained.save_hdf5(path, write_diff=True)
    with h5py.File(path) as file:
        assert sorted(file) == ["data", "diff"]
        assert list(file["data/in"]) == [], "layers without parameters have an empty group"
        assert sorted(file["data"]["a/one"]) == ["0", "1"]
        assert list(file["data/b"]) == ["1"], "a shared parameter is written with its owner alone"
        assert sorted(file["diff/b"]) == ["0", "1"], "its diff with every layer"
        np.testing.assert_array_equal(file["diff/b/0"], trained.params["a/one"][0].diff)
        assert file["data/b/1"].dtype == np.float32


def test_layers_that_only_one_side_has_are_passed_over(trained, tmp_path, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    path = str(tmp_path / "w.caffemodel")
    trained.save(path)
    net(NET.replace('name: "b"', 'name: "c"')).copy_from(path)
    assert "Ignoring source layer b" in caplog.messages
    assert f"1 of 2 layers with parameters took weights from '{path}'; not in the file: c; not in the net: b" in (
        caplog.messages
    )


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_other_shapes_and_counts_are_refused(trained, tmp_path, kind):
    path = str(tmp_path / "w")
    trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    other = NET.replace("dim: 4", "dim: 5").replace('param { name: "w" }', "")
    for phase, advice in ((minicaffe.TRAIN, "rename the layer$"), (minicaffe.TEST, "the weights of another net.$")):
        with pytest.raises(
            SnapshotError, match=rf"param 0 .*'a/one'.*expects \(4, 5\), the file has \(4, 4\).*{advice}"
        ):
            net_from_text(other, phase).copy_from(path)
    with pytest.raises(SnapshotError, match="another number of blobs: the net expects 1, the file has 2"):
        net(NET.replace("num_output: 4", "num_output: 4 bias_term: false")).copy_from(path)


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_truncated_files(trained, tmp_path, kind):
    path = tmp_path / "w.caffemodel"
    trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(minicaffe.errors.MinicaffeError, match="w.caffemodel.*(truncated|damaged)"):
        net().copy_from(path)


def changed(path, name, value):
    """Replace a dataset of an HDF5 file."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("data/b/1", None, "layer 'b' lacks its parameter 1 of shape .4,."),
        ("data/b/1", ["text"] * 4, 'dataset "data/b/1" of HDF5 file .*w must be an array of numbers, got text'),
        ("data/b/1", 3.0, r"param 1 weights of layer 'b': .* expects \(4,\), the file has \(\)"),
        ("data/b/1", h5py.ExternalLink("other.h5", "/data"), "layer 'b': .* the file has"),
        ("data/b/99999999999", np.zeros(4), None),
        ("data/b/5", np.zeros(4), "another number of blobs: the net expects 2, the file has 2"),
        ("data/b/01", np.zeros(4), None),
        ("data/b/\u0663", np.zeros(4), None),
        ("data/b/more", np.zeros(4), None),
        ("data/b/loop", h5py.SoftLink("/data"), None),
    ],
)
def test_damaged_hdf5(trained, tmp_path, name, value, reason):
    """Names that are no index of a blob are passed over; other differences from what a net writes are refused."""
    trained.save_hdf5(tmp_path / "w")
    changed(tmp_path / "w", name, value)
    if reason is None:
        net().copy_from(tmp_path / "w")
    else:
        with pytest.raises(SnapshotError, match=reason):
            net().copy_from(tmp_path / "w")


@pytest.mark.parametrize("dims", [[-1, -4], [2**40, 2**40], [4, 0], [1] * 70])
def test_shapes_of_damaged_binary_weights(trained, tmp_path, dims):
    trained.save(tmp_path / "w")
    stored = caffe_pb2.NetParameter.FromString((tmp_path / "w").read_bytes())
    stored.layer[2].blobs[1].shape.dim[:] = dims
    written(stored, tmp_path / "w")
    with pytest.raises(SnapshotError, match="param 1 weights of layer 'b': shape mismatch"):
        net().copy_from(tmp_path / "w")
    with pytest.raises(SnapshotError, match="w': param 1 of layer 'b' has (4 numbers, not|70 axes, more than 32)"):
        show.read_weights(tmp_path / "w")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev", "fifo", "a\0b"])
def test_what_is_no_file(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with pytest.raises(SnapshotError, match="cannot open the weights '.*': (it is a|its name has a null)"):
        net().copy_from(path)


def test_missing_files(tmp_path):
    with pytest.raises(SnapshotError, match="cannot open the weights '.*no.caffemodel': No such file"):
        net().copy_from(tmp_path / "no.caffemodel")


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "w"
    path.write_text("old")
    with pytest.raises(SnapshotError, match="cannot write '.*w': No space left on device"):
        with files.replacing(path, SnapshotError) as temporary:
            with open(temporary, "w") as file:
                file.write("half")
            raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["w"]


# -- files that match no layer, and other files ------------------------------------------------------------------------


def written(message, path):
    path.write_bytes(message.SerializeToString())
    return path


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_weights_that_match_nothing(trained, tmp_path, kind):
    path = tmp_path / "w"
    trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    renamed = NET.replace('name: "a/one"', 'name: "c"').replace('name: "b"', 'name: "d"')
    with pytest.raises(SnapshotError, match="w': no layer .* the net has parameters in c, d; .* weights of a/one, b$"):
        net(renamed).copy_from(path)
    with pytest.raises(SnapshotError, match="the file has weights of no layer"):
        net().copy_from(written(parse_text('layer { name: "relu" type: "ReLU" }', caffe_pb2.NetParameter()), path))


def test_long_lists_of_names_are_shortened(trained, tmp_path):
    trained.save(tmp_path / "w")
    chain = "".join(
        f'layer {{ name: "ip{i}" type: "InnerProduct" bottom: "x{i}" top: "x{i + 1}" '
        "inner_product_param { num_output: 1 } }"
        for i in range(12)
    )
    deep = net('layer { name: "in" type: "Input" top: "x0" input_param { shape { dim: 1 dim: 1 } } }' + chain)
    with pytest.raises(SnapshotError, match="parameters in ip0, .*, ip7 and 4 more; the file"):
        deep.copy_from(tmp_path / "w")


def test_what_needs_no_weights_takes_any_file(trained, tmp_path, caplog):
    trained.save(tmp_path / "w")
    net('layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 } } }').copy_from(tmp_path / "w")
    net(NET.partition('layer { name: "b"')[0]).copy_from(tmp_path / "w")  # a net with only some of the layers
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_several_files_count_as_one(trained, tmp_path, caplog):
    both = trained.to_proto()
    for i in (1, 2):
        part = caffe_pb2.NetParameter()
        part.layer.add().CopyFrom(both.layer[i])
        written(part, tmp_path / str(i))
    made = net(NET.replace('param { name: "w" }', ""))
    made.copy_from(tmp_path / "1", tmp_path / "2")
    assert not caplog.messages
    np.testing.assert_array_equal(made.params["b"][1].data, trained.params["b"][1].data)
    made.copy_from(tmp_path / "1")
    assert "1 of 2 layers with parameters" in caplog.messages[-1]


def test_the_warning_is_seen_in_a_plain_script(trained, tmp_path):
    trained.save(tmp_path / "w.caffemodel")
    (tmp_path / "n.prototxt").write_text(NET.replace('name: "b"', 'name: "c"'))
    script = "import minicaffe as caffe; caffe.Net('n.prototxt', 'w.caffemodel', caffe.TEST)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.startswith("1 of 2 layers with parameters took weights from 'w.caffemodel'"), done.stderr


def test_a_failed_load_changes_nothing(trained, tmp_path):
    trained.save(tmp_path / "w")
    other = net(NET.replace("num_output: 4", "num_output: 5").replace("num_output: 5", "num_output: 4", 1)
                .replace('param { name: "w" }', ""))  # fmt: skip
    before = values(other)
    with pytest.raises(SnapshotError, match="layer 'b'.*shape mismatch"):
        other.copy_from(tmp_path / "w")
    for a, b in zip(values(other), before):
        np.testing.assert_array_equal(a, b)


def test_blobs_without_numbers(trained, tmp_path):
    param = trained.to_proto()
    param.layer[1].blobs[1].ClearField("data")
    with pytest.raises(SnapshotError, match=r"param 1 of layer 'a/one': expected 4 numbers .* \(4,\), got 0"):
        net().copy_from(written(param, tmp_path / "w"))


def test_a_data_set_is_no_weights(tmp_path):
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["data"] = np.zeros((2, 3))
    with pytest.raises(SnapshotError, match="train.h5' has no group 'data' .* it holds"):
        net().copy_from(tmp_path / "train.h5")


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["binary", "hdf5"])
def test_a_full_disk(trained, tmp_path, kind):
    """Beyond the limit of the size of files, writing fails as on a full disk; the older file is unchanged."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "w"
    trained.save(path)
    before, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(SnapshotError, match="cannot write '.*w': File too large"):
            trained.save(path) if kind == "binary" else trained.save_hdf5(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["w"]
