"""The interface of caffe.Net: names, views, partial passes, files, levels and stages."""

from collections import OrderedDict

import numpy as np
import pytest

import minicaffe as caffe
from minicaffe.errors import MinicaffeError, UsageError

NET = """name: 'small' force_backward: true
    layer { type: 'DummyData' name: 'data' top: 'data' top: 'label'
      dummy_data_param { num: 5 channels: 2 height: 3 width: 4  num: 5 channels: 1 height: 1 width: 1
        data_filler { type: 'gaussian' std: 1 }  data_filler { type: 'constant' } } }
    layer { type: 'Convolution' name: 'conv' bottom: 'data' top: 'conv'
      convolution_param { num_output: 11 kernel_size: 2 pad: 3
        weight_filler { type: 'gaussian' std: 1 }  bias_filler { type: 'constant' value: 2 } }
      param { decay_mult: 1 } param { decay_mult: 0 } }
    layer { type: 'InnerProduct' name: 'ip' bottom: 'conv' top: 'ip_blob'
      inner_product_param { num_output: 13
        weight_filler { type: 'gaussian' std: 2.5 } bias_filler { type: 'constant' value: -3 } } }
    layer { type: 'SoftmaxWithLoss' name: 'loss' bottom: 'ip_blob' bottom: 'label' top: 'loss' }"""

DEPLOY = """input: 'data' input_shape { dim: 2 dim: 3 }
    layer { type: 'InnerProduct' name: 'ip' bottom: 'data' top: 'ip' inner_product_param { num_output: 4
      weight_filler { type: 'xavier' } } }
    layer { type: 'Softmax' name: 'prob' bottom: 'ip' top: 'prob' }"""


@pytest.fixture
def prototxt(tmp_path):
    def write(text=NET, name="net.prototxt"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def net(prototxt):
    net = caffe.Net(prototxt(), caffe.TRAIN)
    net.blobs["label"].data[...] = np.random.default_rng(1).integers(13, size=net.blobs["label"].data.shape)
    return net


def test_arrays_outlive_the_net(prototxt):
    net = caffe.Net(prototxt(), caffe.TRAIN)
    blobs = [*net.blobs.values(), *(blob for blobs in net.params.values() for blob in blobs)]
    arrays = [blob.data for blob in blobs]
    del net
    assert np.isfinite(sum(blob.data.sum() + blob.diff.sum() for blob in blobs) + sum(a.sum() for a in arrays))


def test_names(net):
    assert net.inputs == [] and net.outputs == ["loss"]
    assert net.top_names == OrderedDict(
        [("data", ["data", "label"]), ("conv", ["conv"]), ("ip", ["ip_blob"]), ("loss", ["loss"])]
    )
    assert net.bottom_names == OrderedDict(
        [("data", []), ("conv", ["data"]), ("ip", ["conv"]), ("loss", ["ip_blob", "label"])]
    )
    assert list(net._layer_names) == ["data", "conv", "ip", "loss"] == list(net.layer_dict)
    assert [layer.type for layer in net.layers] == ["DummyData", "Convolution", "InnerProduct", "SoftmaxWithLoss"]
    assert list(net.blobs) == ["data", "label", "conv", "ip_blob", "loss"] == list(net._blob_names)
    assert list(net.params) == ["conv", "ip"] and len(net.params["conv"]) == 2
    assert net.blob_loss_weights["loss"] == 1 and net.blob_loss_weights["data"] == 0
    assert len(net.layer_dict["conv"].blobs) == 2 and net.layer_dict["conv"].type == "Convolution"


def test_blob_surface(net):
    blob = net.blobs["data"]
    assert (blob.num, blob.channels, blob.height, blob.width) == (5, 2, 3, 4) and blob.count == 120
    assert list(blob.shape) == [5, 2, 3, 4] and blob.data.dtype == np.float32 and blob.diff.shape == blob.data.shape
    blob.reshape(1, 2)
    assert tuple(blob.shape) == (1, 2)


def test_data_are_views(net):
    view = net.params["ip"][0].data
    view[...] = 0
    assert not net.params["ip"][0].data.any()
    out = net.forward()
    assert out["loss"] is net.blobs["loss"].data or np.shares_memory(out["loss"], net.blobs["loss"].data)
    np.testing.assert_allclose(out["loss"], np.log(13), rtol=1e-5)


def test_forward_and_backward_of_one_layer(net):
    conv, ip = net.blobs["conv"], net.blobs["ip_blob"]
    weights, bias = (blob.data for blob in net.params["ip"])
    conv.data[:] = np.random.default_rng(2).uniform(size=conv.data.shape)
    assert list(net.forward(start="ip", end="ip")) == ["ip_blob"]
    np.testing.assert_allclose(ip.data, conv.data.reshape(5, -1) @ weights.T + bias, rtol=1e-3, atol=1e-4)
    diff = np.random.default_rng(3).uniform(size=ip.data.shape).astype(np.float32)
    ip.diff[:] = diff
    assert "conv" in net.backward(start="ip", end="ip")
    np.testing.assert_allclose(conv.diff.reshape(5, -1), diff @ weights, rtol=1e-3, atol=1e-4)


def test_clear_param_diffs(net):
    net.forward()
    net.backward()
    diff = net.params["conv"][0].diff
    assert diff.max() > 0
    net.clear_param_diffs()
    assert (diff == 0).all()


def test_extra_blobs_and_unknown_layers(net):
    assert set(net.forward(blobs=["conv"])) == {"loss", "conv"}
    assert set(net.backward(diffs=["conv"])) == {"conv"}
    with pytest.raises(UsageError, match="no layer 'nothing'"):
        net.forward(end="nothing")


@pytest.mark.parametrize("save, load", [("save", "copy_from"), ("save_hdf5", "load_hdf5")])
def test_weights_in_files(net, prototxt, tmp_path, save, load):
    path = str(tmp_path / "weights")
    getattr(net, save)(path)
    other = caffe.Net(prototxt(), caffe.TRAIN)
    getattr(other, load)(path)
    for name, blobs in net.params.items():
        for mine, theirs in zip(blobs, other.params[name]):
            np.testing.assert_array_equal(mine.data, theirs.data)


def test_constructors(net, prototxt, tmp_path):
    path = str(tmp_path / "weights.caffemodel")
    net.save(path)
    for other in (
        caffe.Net(prototxt(), path, caffe.TRAIN),
        caffe.Net(prototxt(), caffe.TRAIN, weights=path),
        caffe.Net(network_file=prototxt(), phase=caffe.TRAIN, weights=path),
    ):
        np.testing.assert_array_equal(other.params["ip"][0].data, net.params["ip"][0].data)
    with pytest.raises(MinicaffeError, match="missing.prototxt"):
        caffe.Net(str(tmp_path / "missing.prototxt"), caffe.TEST)


def test_share_with(net, prototxt):
    other = caffe.Net(prototxt(), caffe.TEST)
    other.share_with(net)
    net.params["ip"][1].data[...] = 42
    assert (other.params["ip"][1].data == 42).all()


def test_keyword_inputs(prototxt):
    net = caffe.Net(prototxt(DEPLOY), caffe.TEST)
    x = np.random.default_rng(4).random((2, 3), np.float32)
    prob = net.forward(data=x)["prob"].copy()
    np.testing.assert_allclose(prob.sum(1), 1, rtol=1e-5)
    net.blobs["data"].data[...] = x
    np.testing.assert_array_equal(net.forward()["prob"], prob)
    with pytest.raises(UsageError, match=r"\['data'\], got \['dta'\]"):
        net.forward(dta=x)
    with pytest.raises(UsageError, match="batch of 2"):
        net.forward(data=x[:1])


def test_forward_all_pads_the_last_batch(prototxt):
    net = caffe.Net(prototxt(DEPLOY), caffe.TEST)
    x = np.random.default_rng(5).random((5, 3), np.float32)
    out = net.forward_all(data=x, blobs=["ip"])
    assert out["prob"].shape == (5, 4) and out["ip"].shape == (5, 4)
    np.testing.assert_allclose(out["prob"][4], net.forward(data=x[[4, 0]])["prob"][0], rtol=1e-5)


def test_forward_backward_all(prototxt):
    net = caffe.Net(prototxt("force_backward: true " + DEPLOY), caffe.TEST)
    x = np.random.default_rng(6).random((3, 3), np.float32)
    outs, diffs = net.forward_backward_all(data=x, prob=np.eye(3, 4, dtype=np.float32))
    assert outs["prob"].shape == (3, 4) and diffs["data"].shape == (3, 3)
    net.forward(data=x[:2])
    np.testing.assert_allclose(net.backward(prob=np.eye(2, 4, dtype=np.float32))["data"], diffs["data"][:2], rtol=1e-5)


def test_reshape_follows_the_input(prototxt):
    net = caffe.Net(prototxt(DEPLOY), caffe.TEST)
    net.blobs["data"].reshape(7, 3)
    net.reshape()
    assert net.blobs["prob"].data.shape == (7, 4)
    net.blobs["data"].reshape(1, 3)
    assert net.forward(data=np.ones((1, 3)))["prob"].shape == (1, 4)


def test_callbacks_count_layers(net):
    seen = []
    net.before_forward(lambda i: seen.append(("bf", i)))
    net.after_forward(lambda i: seen.append(("af", i)))
    net.before_backward(lambda i: seen.append(("bb", i)))
    net.after_backward(lambda i: seen.append(("ab", i)))
    net.forward()
    net.backward()
    assert [i for what, i in seen if what == "bf"] == [0, 1, 2, 3] == [i for what, i in seen if what == "af"]
    assert [i for what, i in seen if what == "bb"] == [3, 2, 1, 0] == [i for what, i in seen if what == "ab"]
    assert seen[:2] == [("bf", 0), ("af", 0)]


def layers_with_rules(rules):
    data = "layer { name: 'data' type: 'DummyData' top: 'data' dummy_data_param { shape { dim: 1 dim: 10 } } }"
    return data + "".join(
        f"layer {{ name: '{name}' type: 'InnerProduct' bottom: 'data' top: '{name}' "
        f"inner_product_param {{ num_output: 1 }} {rule} }}"
        for name, rule in rules.items()
    )


def blobs_of(net):
    return [name for name in net.blobs if "data" not in name]


def test_levels(prototxt):
    path = prototxt(
        layers_with_rules(
            {
                "always": "",
                "zero": "include { min_level: 0 max_level: 0 }",
                "one": "include { min_level: 1 max_level: 1 }",
                "up": "include { min_level: 1 }",
            }
        )
    )
    assert blobs_of(caffe.Net(path, caffe.TEST)) == ["always", "zero"]
    assert blobs_of(caffe.Net(path, caffe.TEST, level=1)) == ["always", "one", "up"]


def test_stages(prototxt):
    path = prototxt(
        layers_with_rules(
            {
                "always": "",
                "A": "include { stage: 'A' }",
                "AandB": "include { stage: 'A' stage: 'B' }",
                "AorB": "include { stage: 'A' } include { stage: 'B' }",
                "notA": "include { not_stage: 'A' }",
            }
        )
    )
    assert blobs_of(caffe.Net(path, caffe.TEST)) == ["always", "notA"]
    assert blobs_of(caffe.Net(path, caffe.TEST, stages=["A"])) == ["always", "A", "AorB"]
    assert blobs_of(caffe.Net(path, caffe.TEST, stages=["A", "B"])) == ["always", "A", "AandB", "AorB"]
    assert blobs_of(caffe.Net(path, caffe.TEST, stages=["B"])) == ["always", "AorB", "notA"]


def test_one_stage_as_a_string(prototxt):
    path = prototxt(layers_with_rules({"always": "", "deploy": "include { stage: 'deploy' }"}))
    for net in (
        caffe.Net(path, caffe.TEST, stages="deploy"),
        caffe.Net(path, caffe.TEST, 0, "deploy"),
        caffe.Net(path, caffe.TEST, None, ("deploy",)),
        caffe.Net(path, np.int64(1), stages=iter(["deploy"])),
    ):
        assert blobs_of(net) == ["always", "deploy"] and list(net.param.state.stage) == ["deploy"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((caffe.TEST, "w.caffemodel"), "the level must be a number, got 'w.caffemodel'; weights are given by name"),
        ((2,), "the phase must be minicaffe.TRAIN or minicaffe.TEST, got 2"),
        (("w.caffemodel", "TEST"), "the phase must be minicaffe.TRAIN or minicaffe.TEST, got 'TEST'"),
        (("w.caffemodel",), r"expected Net\(prototxt, phase, ...\) or Net\(prototxt, weights, phase\)"),
        ((caffe.TEST, 0, [1]), "expected a name or a list of names, got list"),
        ((caffe.TEST, 0, 5), "expected a name or a list of names, got int"),
        ((caffe.TEST, 0, None, 5), "the weights must be the path of a file, got 5"),
        ((caffe.TEST, 0, None, None, 1), "expected at most"),
    ],
)
def test_constructor_arguments_that_do_not_go_together(prototxt, arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        caffe.Net(prototxt(), *arguments)


def test_a_net_is_made_of_a_file_or_a_message(prototxt):
    with pytest.raises(UsageError, match="the path of a prototxt or a NetParameter, got NetSpec"):
        caffe.Net(caffe.NetSpec(), caffe.TEST)
    with pytest.raises(UsageError, match="the phase must be .*, got 'TEST'"):
        caffe.Net(prototxt(), phase="TEST")


def test_layer_type_list():
    types = caffe.layer_type_list()
    assert {"Data", "Convolution", "InnerProduct", "Python"} <= set(types)
    assert all(isinstance(name, str) for name in types)
