"""Layers with repeated or empty names in files of weights."""

import os

import numpy as np
import pytest

import minicaffe
from helpers.nets import net_from_text
from minicaffe.errors import SnapshotError
from minicaffe.proto import caffe_pb2

IN = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }'
NAMED = """
layer { name: "%s" type: "InnerProduct" bottom: "data" top: "x" inner_product_param { num_output: 2 bias_term: false } }
"""
TWO = (
    IN
    + """
layer { name: "fc" type: "ReLU" bottom: "data" top: "data" }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "a"
        inner_product_param { num_output: 2 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "a" top: "b"
        inner_product_param { num_output: 2 bias_term: false weight_filler { type: "xavier" } } }
"""
)


def net(text):
    return net_from_text(text, minicaffe.TEST)


def written(message, path):
    path.write_bytes(message.SerializeToString())
    return path


def sources(*values, name="fc"):
    """Return weights of 2x2 layers with one name, filled with the given values; None gives a layer without blobs."""
    param = caffe_pb2.NetParameter()
    for value in values:
        layer = param.layer.add(name=name, type="InnerProduct")
        if value is not None:
            layer.blobs.add(data=[value] * 4).shape.dim.extend([2, 2])
    return param


@pytest.mark.parametrize("text", [TWO, TWO.replace('name: "fc" ', "")], ids=["one name", "no name"])
def test_layers_of_one_name_are_loaded_in_order(tmp_path, text):
    made, other = net(text), net(text)
    made.save(tmp_path / "w")
    other.copy_from(tmp_path / "w")
    for a, b in zip(made.learnable_params, other.learnable_params):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize(
    "given, expected", [((5,), (5, None)), ((None, 5, 6), (5, 6)), ((5, 6, 7), (7, 6)), ((5, None), (5, None))]
)
def test_which_layers_of_one_name_take_what(tmp_path, given, expected):
    made = net(TWO)
    before = [layer.blobs[0].data.flat[0] for layer in made.layers[2:]]
    made.copy_from(written(sources(*given), tmp_path / "w"))
    found = [layer.blobs[0].data.flat[0] for layer in made.layers[2:]]
    assert found == [old if new is None else new for old, new in zip(before, expected)]


def test_the_only_layer_of_a_name_takes_the_last(tmp_path, caplog):
    made = net(TWO.rpartition("layer {")[0])
    made.copy_from(written(sources(5, 6), tmp_path / "w"))
    assert made.params["fc"][0].data.ravel().tolist() == [6] * 4, "as in the original"
    assert "has more layers named 'fc' than the net: the first takes the last" in caplog.messages[-1]


def test_hdf5_fills_the_first_layer_of_a_name(tmp_path):
    one = net(TWO.rpartition("layer {")[0])
    one.save_hdf5(tmp_path / "w.h5")
    made = net(TWO)
    second = made.layers[3].blobs[0].data.copy()
    made.copy_from(tmp_path / "w.h5")
    np.testing.assert_array_equal(made.layers[2].blobs[0].data, one.layers[2].blobs[0].data)
    np.testing.assert_array_equal(made.layers[3].blobs[0].data, second)


def test_a_layer_without_blobs_is_refused_where_the_net_expects_them(tmp_path):
    with pytest.raises(SnapshotError, match="'fc' has another number of blobs: the net expects 1, the file has 0"):
        net(IN + NAMED % "fc").copy_from(written(sources(None), tmp_path / "w"))


@pytest.mark.parametrize(
    "text, message",
    [
        (TWO.removeprefix(IN), "two layers with parameters of one name, 'fc'"),
        (NAMED % "", r"a layer without a name \(InnerProduct, bottom data\)"),
        (NAMED % "/fc", "a layer of the name '/fc'"),
        (NAMED % "a//b", "a layer of the name 'a//b'"),
        (
            NAMED % "fc" + 'layer { name: "fc/0" type: "ReLU" bottom: "x" top: "x" }',
            "a layer 'fc/0' beside .* layer 'fc'",
        ),
    ],
)
def test_what_hdf5_cannot_hold(tmp_path, text, message):
    with pytest.raises(SnapshotError, match=f"HDF5 cannot hold the weights of {message}"):
        net(IN + text).save_hdf5(tmp_path / "w.h5")
    assert not os.listdir(tmp_path)


def test_hdf5_holds_what_has_no_parameters_under_any_name(tmp_path):
    text = TWO.rpartition("layer {")[0] + 'layer { type: "ReLU" bottom: "a" top: "a" }'
    made, other = net(text), net(text)
    made.save_hdf5(tmp_path / "w.h5")
    other.copy_from(tmp_path / "w.h5")
    np.testing.assert_array_equal(made.params["fc"][0].data, other.params["fc"][0].data)


SHARED = """
layer { name: "%s" type: "InnerProduct" bottom: "data" top: "%s" param { name: "w" }
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } bias_filler { type: "xavier" } } }
"""


def test_hdf5_in_either_order_of_the_owner(tmp_path):
    """A shared parameter is stored with its owner, which may be another layer in the other net."""
    made, other = (net(IN + SHARED % (a, a) + SHARED % (b, b)) for a, b in ("ab", "ba"))
    made.save_hdf5(tmp_path / "w.h5")
    other.copy_from(tmp_path / "w.h5")
    for name in "ab":
        for mine, theirs in zip(made.params[name], other.params[name]):
            np.testing.assert_array_equal(mine.data, theirs.data)
