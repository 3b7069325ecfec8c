"""NetSpec, L and P: the NetParameters that they build, and their errors."""

import numpy as np
import pytest
from google.protobuf import text_format

from minicaffe import net_spec
from minicaffe.net_spec import NetSpec, NetSpecError, assign_proto, param_name_dict, to_proto
from minicaffe.proto import caffe_pb2

L, P = net_spec.layers, net_spec.params


def text_net(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def test_names_types_and_messages():
    n = NetSpec()
    n.data, n.label = L.Data(source="db", backend=P.Data.LMDB, batch_size=8, ntop=2, transform_param=dict(scale=0.5))
    n.conv1 = L.Convolution(
        n.data,
        kernel_size=5,
        num_output=20,
        weight_filler=dict(type="xavier"),
        param=[dict(lr_mult=1), dict(lr_mult=2)],
    )
    n.pool1 = L.Pooling(n.conv1, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu1, n.label, loss_weight=0.3, include=dict(phase=caffe_pb2.TRAIN))
    assert n.to_proto() == text_net("""
        layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.5 }
                data_param { source: "db" batch_size: 8 backend: LMDB } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
                convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
        layer { name: "relu1" type: "ReLU" bottom: "pool1" top: "pool1" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool1" bottom: "label" top: "loss" loss_weight: 0.3
                include { phase: TRAIN } }""")


def test_unnamed_blobs_are_counted_by_type():
    data, label = L.DummyData(ntop=2)
    score = L.InnerProduct(L.InnerProduct(data, num_output=3), num_output=2)
    net = L.SoftmaxWithLoss(score, label).to_proto()
    assert [list(layer.top) for layer in net.layer] == [
        ["DummyData1", "DummyData2"],
        ["InnerProduct1"],
        ["InnerProduct2"],
        ["SoftmaxWithLoss1"],
    ]
    assert [layer.name for layer in net.layer] == ["DummyData1", "InnerProduct1", "InnerProduct2", "SoftmaxWithLoss1"]
    assert list(net.layer[3].bottom) == ["InnerProduct2", "DummyData2"]


def test_several_tops_share_their_ancestors():
    data = L.Input(shape=dict(dim=[1, 2]))
    net = to_proto(L.ReLU(data), L.Sigmoid(data))
    assert [layer.type for layer in net.layer] == ["Input", "ReLU", "Sigmoid"]


def test_layers_without_tops():
    n = NetSpec()
    n.a, n.b = L.DummyData(shape=dict(dim=3), ntop=2)
    n.quiet_a = L.Silence(n.a, ntop=0)
    n.quiet_b = L.Silence(n.b, ntop=0)
    net = n.to_proto()
    assert [layer.name for layer in net.layer] == ["a", "quiet_a", "quiet_b"]
    assert all(not layer.top for layer in net.layer[1:])
    assert L.Silence(n.a, ntop=0).type_name == "Silence"


def test_functions_without_names_or_tops_are_counted():
    n = NetSpec()
    n.a = L.DummyData()
    silent = L.Silence(n.a, ntop=0)
    n["x/y"] = silent
    assert n.to_proto().layer[1].name == "x/y"
    names = {}
    layers = {}
    from collections import Counter

    silent._to_proto(layers, names, Counter())
    assert layers[silent].name == "Silence1"


def test_items_and_attributes_are_the_same():
    n = NetSpec()
    n["conv/3x3"] = L.Input(shape=dict(dim=[1]))
    n.b = L.ReLU(n["conv/3x3"])
    assert n["b"] is n.b and "b" in n and list(n) == ["conv/3x3", "b"] and list(n.tops) == ["conv/3x3", "b"]
    del n.b
    assert "b" not in n
    with pytest.raises(KeyError):
        n["b"]
    with pytest.raises(AttributeError):
        del n.b


def test_misspelt_blob_gets_a_hint():
    n = NetSpec()
    n.conv1 = L.Input()
    with pytest.raises(NetSpecError, match=r"no blob 'convl' \(did you mean \"conv1\"\?\)"):
        n["convl"]


def test_inputs_must_be_tops():
    pair = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(pair, ntop=0)
    L.Silence(*pair, ntop=0)
    n = NetSpec()
    n.pair = pair
    with pytest.raises(NetSpecError, match="'pair' was assigned tuple"):
        n.to_proto()


def test_unknown_field_names_layer_and_nearest_field():
    n = NetSpec()
    n.data = L.Input()
    n.conv = L.Convolution(n.data, num_outputs=3)
    with pytest.raises(NetSpecError, match=r"Convolution layer 'conv': no field 'num_outputs'.*num_output"):
        n.to_proto()
    n.conv = L.Convolution(n.data, weight_filler=dict(typ="xavier"))
    with pytest.raises(NetSpecError, match="Convolution layer 'conv': in 'weight_filler'"):
        n.to_proto()
    n.conv = L.Convolution(n.data, num_output="many")
    with pytest.raises(TypeError, match="Convolution layer 'conv': field 'num_output' cannot hold 'many'"):
        n.to_proto()


def test_deconvolution_takes_convolution_fields():
    layer = L.Deconvolution(L.Input(), num_output=2, kernel_size=[4, 5]).to_proto().layer[1]
    assert list(layer.convolution_param.kernel_size) == [4, 5] and layer.convolution_param.num_output == 2


def test_assign_proto_values():
    layer = caffe_pb2.LayerParameter()
    assign_proto(layer, "bottom", "one")
    assign_proto(layer, "bottom", ("two", "three"))
    assign_proto(layer, "loss_weight", np.float32([0.5, 1]))
    assign_proto(layer, "input_param", dict(shape=[dict(dim=np.array([1, 2])), dict(dim=3)]))
    assign_proto(layer, "relu_param", {})
    assign_proto(layer, "pooling_param", dict(kernel_size=[1, 2, 3], stride=(2,), pad=0))
    assert (layer.pooling_param.kernel_size, list(layer.pooling_param.more_kernel_size)) == (1, [2, 3])
    assert (layer.pooling_param.stride, list(layer.pooling_param.more_stride)) == (2, [])
    assign_proto(layer, "transform_param", caffe_pb2.TransformationParameter(scale=2))
    assert list(layer.bottom) == ["one", "two", "three"]
    assert list(layer.loss_weight) == [0.5, 1]
    assert [list(shape.dim) for shape in layer.input_param.shape] == [[1, 2], [3]]
    assert layer.HasField("relu_param") and layer.transform_param.scale == 2
    with pytest.raises(AttributeError):
        assign_proto(layer, "no_such_field", 1)


def test_param_name_dict():
    names = param_name_dict()
    assert names["Convolution"] == "convolution" and names["BatchNorm"] == "batch_norm"
    assert names["InnerProduct"] == "inner_product" and names["Python"] == "python" and names["HDF5Data"] == "hdf5_data"


def test_params_are_the_enums_of_the_schema():
    assert P.Pooling.MAX == caffe_pb2.PoolingParameter.MAX and P.Data.LMDB == caffe_pb2.DataParameter.LMDB
    assert P.Eltwise.SUM == 1 and P.Loss.VALID == caffe_pb2.LossParameter.VALID
    with pytest.raises(AttributeError, match="Pooling"):
        P.Poling  # noqa: B018 - the access raises


def test_nets_deeper_than_the_stack():
    top = L.Input(shape=dict(dim=[1]))
    for _ in range(3000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 3001


def test_python_layer_with_param_str():
    layer = L.Python(module="m", layer="C", param_str=str(dict(a=1)), ntop=1).to_proto().layer[0]
    assert layer.python_param.param_str == "{'a': 1}" and layer.type == "Python"


def test_methods_of_ssds_fork():
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 2]))
    n.ip = L.InnerProduct(n.data, num_output=3)
    n.update("ip", {"num_output": 4, "bias_term": False})
    n.silence = L.Silence(n.ip, ntop=0)
    n.update("silence", {"propagate_down": False})
    assert n.keys() == ["data", "ip", "silence"] and n.vals() == [n.data, n.ip, n.silence]
    ip, silence = n.to_proto().layer[1:]
    assert (ip.inner_product_param.num_output, ip.inner_product_param.bias_term) == (4, False)
    assert list(silence.propagate_down) == [False]
    with pytest.raises(NetSpecError, match="no blob 'ipp'"):
        n.update("ipp", {})


@pytest.mark.parametrize("name", ["keys", "vals", "update"])
def test_blob_with_the_name_of_a_method(name):
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 2]))
    setattr(n, name, L.Sigmoid(n.data))
    n.ip = L.InnerProduct(getattr(n, name), num_output=3)
    assert [layer.name for layer in n.to_proto().layer] == ["data", name, "ip"]
    delattr(n, name)
    assert callable(getattr(n, name))
