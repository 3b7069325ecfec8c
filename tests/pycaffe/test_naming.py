"""A net's blobs and layers by name, and by index, as in pycaffe's compiled module."""

import copy

import numpy as np
import pytest

import minicaffe as caffe
from helpers.nets import net_from_text
from minicaffe import layers as L
from minicaffe.errors import LayerError, UsageError

# With a split (data is read twice), a layer in place, and two losses with automatic tops.
NET = """layer { name: 'in' type: 'Input' top: 'data' top: 'label'
          input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
    layer { name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'ip' inner_product_param { num_output: 4
      weight_filler { type: 'uniform' min: 0.1 max: 1 } } }
    layer { name: 'relu' type: 'ReLU' bottom: 'ip' top: 'ip' }
    layer { name: 'sum' type: 'Reduction' bottom: 'data' top: 'sum' reduction_param { axis: 1 } }
    layer { name: 'one' type: 'SoftmaxWithLoss' bottom: 'ip' bottom: 'label' loss_weight: 2 }
    layer { name: 'two' type: 'EuclideanLoss' bottom: 'sum' bottom: 'label' loss_weight: 3 }"""


@pytest.fixture
def net():
    return net_from_text(NET, caffe.TRAIN)


def test_blobs_are_numbered_as_the_layers_make_them(net):
    names = ["data", "label", "data_in_0_split_0", "data_in_0_split_1"]
    names += ["label_in_1_split_0", "label_in_1_split_1", "ip", "sum", "(automatic)", "(automatic)"]
    assert net._blob_names == names and len(net._blobs) == 10
    layers = {
        name: ([names[i] for i in net._bottom_ids(j)], net._top_ids(j)) for j, name in enumerate(net._layer_names)
    }
    assert layers == {
        "in": ([], [0, 1]),
        "data_in_0_split": (["data"], [2, 3]),
        "label_in_1_split": (["label"], [4, 5]),
        "ip": (["data_in_0_split_0"], [6]),
        "relu": (["ip"], [6]),
        "sum": (["data_in_0_split_1"], [7]),
        "one": (["ip", "label_in_1_split_0"], [8]),
        "two": (["sum", "label_in_1_split_1"], [9]),
    }
    assert net._inputs == [0, 1] and net._outputs == []
    assert net._blob_loss_weights == [0] * 8 + [2, 3]
    assert all(net._blobs[i] is blob for row, j in zip(net.tops, range(8)) for i, blob in zip(net._top_ids(j), row))
    with pytest.raises(UsageError, match="number of a layer, 0 to 7, got 8"):
        net._bottom_ids(8)


def test_outputs_by_number():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 2]))
    n.z, n.a = L.Power(n.data), L.Power(n.data)
    net = caffe.Net(n.to_proto(), phase=caffe.TEST)
    assert [net._blob_names[i] for i in net._outputs] == net.outputs == ["a", "z"]


def test_passes_by_number(net):
    x = np.random.default_rng(0).random((2, 3), np.float32)
    net.blobs["data"].data[...], net.blobs["label"].data[...] = x, [1, 3]
    loss = net._forward(0, 7)
    assert loss == pytest.approx(2 * float(net._blobs[8].data) + 3 * float(net._blobs[9].data))
    net._backward(7, 0)
    assert net.params["ip"][0].diff.any()
    net.blobs["ip"].data[...] = 0
    assert net._forward(6, 6) == pytest.approx(2 * np.log(4), rel=1e-5)
    with pytest.raises(UsageError, match="0 to 7, got -1"):
        net._backward(7, -1)


def test_an_automatic_top_is_a_blob_of_the_net(net):
    net.blobs["label"].data[...] = 1
    assert float(net.forward(end="one")["(automatic)"]) == pytest.approx(float(net._blobs[8].data))
    assert list(net.blobs) == list(dict.fromkeys(net._blob_names)) == list(net.blob_loss_weights)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda net: net.blobs.__setitem__("data", np.ones((2, 3))), r"net.blobs\[name\].data\[...\] = array"),
        (lambda net: net.blobs.__delitem__("data"), "net.blobs cannot be changed"),
        (lambda net: net.blobs.update(data=1), "net.blobs cannot be changed"),
        (lambda net: net.blobs.pop("data"), "net.blobs cannot be changed"),
        (lambda net: net.params.__setitem__("ip", [np.ones((4, 3))]), r"params\[layer name\]\[0\].data\[...\] = array"),
        (lambda net: net.params["ip"].__setitem__(0, np.ones((4, 3))), r'params\["ip"\]\[0\].data\[...\] = array'),
        (lambda net: net.params["ip"].__setitem__(slice(None), []), "layer 'ip'.* cannot be replaced"),
        (lambda net: net.params["ip"].__delitem__(1), "layer 'ip'.* cannot be replaced, added or removed"),
        (lambda net: net.params["ip"].append(caffe.Blob((2,))), "layer 'ip'.* cannot be replaced, added or removed"),
        (lambda net: net.params["ip"].add_blob(2), "layer 'ip'.* cannot be replaced, added or removed"),
        (lambda net: net.layer_dict["ip"].blobs.__setitem__(0, 1), "layer 'ip'.* cannot be replaced"),
        (lambda net: net.blob_loss_weights.__setitem__("ip", 1), "give the layer a loss_weight"),
    ],
)
def test_blobs_cannot_be_replaced(net, change, sentence):
    before = [*net.blobs.items(), *net.params["ip"]]
    with pytest.raises(UsageError, match=sentence):
        change(net)
    assert before == [*net.blobs.items(), *net.params["ip"]]


@pytest.mark.parametrize(
    "set_it",
    [
        lambda net: setattr(net, "blobs", {}),
        lambda net: setattr(net, "params", {}),
        lambda net: setattr(net.params["ip"], "data", np.ones((4, 3))),
        lambda net: setattr(net.blobs, "data", np.ones((2, 3))),
    ],
)
def test_attributes_that_would_have_no_effect(net, set_it):
    with pytest.raises(AttributeError):
        set_it(net)


def test_unknown_names(net):
    for look in (lambda: net.blobs["dta"], lambda: net.forward(blobs=["dta"])):
        with pytest.raises(KeyError) as caught:
            look()
        assert isinstance(caught.value, UsageError)
        assert str(caught.value).startswith("the net has no blob 'dta' (did you mean \"data\"?); it has data, label, ")
    with pytest.raises(KeyError, match="the net has no layer with parameters 'relu'; it has ip"):
        net.params["relu"]
    assert net.blobs.get("dta") is None and "dta" not in net.params


def test_values_can_be_assigned(net):
    net.params["ip"][1].data = [1, 2, 3, 4]
    net.blobs["data"].data = np.zeros((2, 3))
    net.params["ip"][0].data[...] += 1
    net.forward(end="relu")
    np.testing.assert_array_equal(net.blobs["ip"].data, [[1, 2, 3, 4]] * 2)


def test_a_copy_of_the_parameters_is_a_dict_of_its_own(net):
    best = copy.deepcopy(net.params)
    net.params["ip"][0].data[...] = 9
    assert best["ip"][0].data.max() < 9
    best["mine"] = copy.copy(best["ip"])
    best["mine"].append(None)
    assert list(best) == ["ip", "mine"] and len(best["ip"]) == 2 == len(net.params["ip"])
    assert isinstance(net.params, dict) and isinstance(net.params["ip"], list)
    assert dict(net.params) == net.params and net.params["ip"][:1] == [net.params["ip"][0]]


def test_a_layer_may_not_have_other_things_among_its_blobs():
    from minicaffe.core.containers import BlobVec

    blobs = BlobVec("ip", np.float32)
    blobs.add_blob(2, 3)
    blobs[0] = np.zeros((2, 3))
    with pytest.raises(LayerError, match=r"blobs\[0\] must be a blob, as add_blob makes them, got ndarray"):
        blobs.complete()
