"""Files of weights: .caffemodel and .caffemodel.h5."""

import zlib

from fuzz import mutate
from fuzz.kind import Case, Kind
from fuzz.mutate_hdf5 import change_hdf5
from minicaffe.core import weights
from minicaffe.core.net import Net
from minicaffe.proto import TEST, caffe_pb2, parse_text

NET = """
name: "t" layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 2 kernel_size: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
layer { name: "drop" type: "Dropout" bottom: "y" top: "y" }
layer { name: "ip/a" type: "InnerProduct" bottom: "y" top: "z" inner_product_param { num_output: 3 } }
"""


def _net():
    return Net(parse_text(NET, caffe_pb2.NetParameter()), TEST)


def _old():
    """Weights of the format of 2014, and a BatchNorm of NVIDIA's Caffe with five blobs."""
    net = caffe_pb2.NetParameter(name="old")
    ip = net.layers.add(name="ip/a", type="INNER_PRODUCT")
    ip.blobs.add(num=1, channels=1, height=3, width=8, data=[0.5] * 24)
    ip.blobs.add(num=1, channels=1, height=1, width=3, data=[1, 2, 3])
    five = caffe_pb2.NetParameter(name="nv")
    bn = five.layer.add(name="bn", type="BatchNorm")
    for count in (2, 2, 1, 2, 2):
        bn.blobs.add(shape=caffe_pb2.BlobShape(dim=[count]), data=[1.0] * count)
    raw = five.layer.add(name="conv", type="Convolution")
    raw.blobs.add(shape=caffe_pb2.BlobShape(dim=[2, 2, 2, 2]), raw_data=bytes(64), raw_data_type=caffe_pb2.FLOAT)
    raw.blobs.add(shape=caffe_pb2.BlobShape(dim=[2]), double_data=[1, 2])
    return [net.SerializeToString(), five.SerializeToString()]


def _binary_examples():
    return [weights.to_binary(_net()), *_old()]


def _hdf5_examples():
    return [bytes(weights.to_hdf5(_net())), bytes(weights.to_hdf5(_net(), write_diff=True))]


def _change(rng, content):
    if rng.random() < 0.4:
        return mutate.flip(rng, content)
    net = caffe_pb2.NetParameter.FromString(content)
    mutate.change_message(rng, net)
    return net.SerializePartialToString()


_target = []  # a net for all cases of a process


def _copy():
    if not _target:
        _target.append(_net())
    _target[0].copy_from("w.caffemodel")


def _binary_case(content):
    commands = [["upgrade_net_proto_binary", "w.caffemodel", "new.caffemodel"], ["show", "w.caffemodel", "out.png"]]
    return Case({"w.caffemodel": content}, [_copy, *_some(content, commands)])


def _some(content, commands):
    """Return one of the commands for one content of twenty, else none: they take long."""
    number = zlib.crc32(content)
    return [] if number % 20 else [commands[number // 20 % len(commands)]]


def _hdf5_case(content):
    return Case({"w.caffemodel": content}, [_copy, *_some(content, [["show", "w.caffemodel", "out.png"]])])


caffemodel = Kind("caffemodel", _binary_examples, _binary_case, _change)
caffemodel_h5 = Kind("caffemodel_h5", _hdf5_examples, _hdf5_case, change_hdf5)
