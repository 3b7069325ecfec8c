"""A whitening as layers: the blob equals the transform, and the net around it."""

import numpy as np
import pytest

from helpers.nets import net_from_text, solver_from_text
from helpers.readers import write_images
from minicaffe.core.net import Net
from minicaffe.data import open_db
from minicaffe.data.whitening import Method
from minicaffe.data.whitening_database import compute, write_database
from minicaffe.errors import DataError, NetError
from minicaffe.proto import TEST, TRAIN, caffe_pb2, format_text, parse_text
from minicaffe.whitening_layers import insert_whitening, save_weights

NET = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mean_value: 3 scale: 0.5 } data_param { source: "db" backend: LMDB batch_size: 10 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { mean_value: 3 mirror: false } data_param { source: "db" backend: LMDB batch_size: 10 } }
layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""

METHODS = {
    "mean": Method("mean"),
    "mean of channels": Method("mean", patch=1),
    "std": Method("std", eps=1.0),
    "std of channels": Method("std", patch=1),
    "zca": Method("zca", eps=5.0),
    "zca of each channel": Method("zca", eps=5.0, per_channel=True),
    "pca": Method("pca", components=11),
    "pca of each channel": Method("pca", components=4, per_channel=True),
    "zca of pixels": Method("zca", patch=1),
    "zca of patches": Method("zca", patch=3, eps=1.0),
    "zca of patches of each channel": Method("zca", patch=5, stride=2, eps=1.0, per_channel=True),
    "pca of patches": Method("pca", patch=3, stride=2, components=6),
    "pca of patches of each channel": Method("pca", patch=2, per_channel=True),
}


@pytest.fixture(scope="module")
def images():
    """Images of bytes, smooth, so that neighbours are correlated."""
    noise = np.random.default_rng(0).normal(size=(300, 3, 9, 10))
    smooth = (noise[:, :, 1:, 1:] + noise[:, :, :-1, 1:] + noise[:, :, 1:, :-1])[:, :, 1:]
    return np.clip(128 + 30 * smooth, 0, 255).astype(np.uint8)


@pytest.fixture
def database(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_db(write_images("db", images, 3)) as opened:
        yield opened


def parsed(text):
    return parse_text(text, caffe_pb2.NetParameter())


@pytest.mark.parametrize("name", METHODS)
def test_the_layers_give_what_the_transform_gives(images, database, name):
    whitening = compute(database, METHODS[name])
    inserted = insert_whitening(parsed(NET), whitening)
    save_weights(inserted.whitening, "w.caffemodel")
    net = Net(inserted.net, phase=TEST)
    net.copy_from("w.caffemodel")
    net.forward(end="whiten")
    expected = whitening.transform(images[:10])
    assert net.blobs["data_whiten"].shape == expected.shape
    assert np.allclose(net.blobs["data_whiten"].data, expected, rtol=1e-4, atol=2e-4 * np.abs(expected).max())


def test_the_layers_give_what_a_whitened_database_gives(database):
    whitening = compute(database, Method("zca", patch=3, eps=1.0))
    with open_db("white_db", "lmdb", "w") as target:
        write_database(whitening, database, target)
    source = NET.replace('"db"', '"white_db"').replace("mean_value: 3", "")
    read = net_from_text(source, TEST)
    read.forward(end="data")
    inserted = insert_whitening(parsed(NET), whitening)
    save_weights(inserted.whitening, "w.caffemodel.h5")
    net = Net(inserted.net, phase=TEST, weights="w.caffemodel.h5")
    net.forward(end="whiten")
    assert np.allclose(net.blobs["data_whiten"].data, read.blobs["data"].data, atol=1e-4)


def test_the_net_around_the_layers(database):
    net = parsed(NET)
    before = format_text(net)
    inserted = insert_whitening(net, compute(database, Method("zca", patch=3)))
    assert format_text(net) == before
    assert inserted.notes == ["Removed mean_value and scale from layer 'data'", "Removed mean_value from layer 'data'"]
    layers = inserted.net.layer
    assert [layer.name for layer in layers] == ["data", "data", "whiten_mean", "whiten", "relu", "ip", "loss"]
    assert not layers[0].HasField("transform_param")
    assert layers[1].transform_param == caffe_pb2.TransformationParameter(mirror=False)
    assert [(list(layer.bottom), list(layer.top)) for layer in layers[2:6]] == [
        (["data"], ["data_whiten_mean"]),
        (["data_whiten_mean"], ["data_whiten"]),
        (["data_whiten"], ["data_whiten"]),
        (["data_whiten"], ["ip"]),
    ]
    assert list(layers[6].bottom) == ["ip", "label"]


def test_training_leaves_the_weights_as_they_are(database):
    inserted = insert_whitening(parsed(NET), compute(database, Method("zca", eps=1.0)))
    save_weights(inserted.whitening, "w.caffemodel")
    solver = solver_from_text(
        "base_lr: 0.1 momentum: 0.9 weight_decay: 0.1 lr_policy: 'fixed' max_iter: 5", format_text(inserted.net)
    )
    solver.net.copy_from("w.caffemodel")
    ip = solver.net.params["ip"][0].data.copy()
    solver.step(3)
    for blob, stored in zip(
        solver.net.params["whiten_product"], inserted.whitening.params["whiten_product"], strict=True
    ):
        assert np.array_equal(blob.data, stored.data)
    assert not np.array_equal(solver.net.params["ip"][0].data, ip)


def test_an_input_and_another_blob(database):
    text = """
    layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 9 } } }
    layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 9 } } }
    layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" } """
    inserted = insert_whitening(parsed(text), compute(database, Method("std", patch=1)), "b")
    assert [layer.name for layer in inserted.net.layer] == ["a", "b", "whiten", "sum"]
    assert list(inserted.net.layer[3].bottom) == ["a", "b_whiten"]
    Net(inserted.net, phase=TRAIN).forward()


def test_crops(database):
    cropping = NET.replace("mean_value: 3 scale", "crop_size: 6 scale")
    inserted = insert_whitening(parsed(cropping), compute(database, Method("zca", patch=3)))
    net = Net(inserted.net, phase=TRAIN)
    net.forward(end="whiten")
    assert net.blobs["data_whiten"].shape == (10, 3, 6, 6)
    with pytest.raises(
        NetError, match="layer 'data' crops images to 6x6, but the whitening is one of whole images of 7x9"
    ):
        insert_whitening(parsed(cropping), compute(database, Method("zca")))
    with pytest.raises(DataError, match="7x7 patches of images .* does not fit an image of shape"):
        insert_whitening(parsed(cropping), compute(database, Method("zca", patch=7, eps=1.0)))


def test_nets_that_cannot_take_the_layers(database):
    whitening = compute(database, Method("mean"))
    with pytest.raises(NetError, match=r"net 'small' has no data layer with a top 'dat' \(did you mean \"data\"\?\)"):
        insert_whitening(parsed(NET), whitening, "dat")
    with pytest.raises(NetError, match="net 'small' has a layer 'whiten' already"):
        insert_whitening(insert_whitening(parsed(NET), whitening).net, whitening)
    with pytest.raises(NetError, match="has no data layer, and no input, whose images could be whitened"):
        insert_whitening(parsed('layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'), whitening)
    swapped = parsed(NET)
    swapped.layer.insert(1, swapped.layer[2])
    with pytest.raises(
        NetError, match="layer 'relu' reads 'data' before layer 'data' produces it: put the data layers"
    ):
        insert_whitening(swapped, whitening)
