"""Weights of forks whose field numbers are other messages here: their blobs are read."""

import struct

import numpy as np
import pytest

import minicaffe
from minicaffe.core.stored_weights import open_weights
from minicaffe.errors import MinicaffeError, PrototxtError
from minicaffe.proto import caffe_pb2, parse_binary
from minicaffe.proto.blobs_only import without_parameters
from minicaffe.varint import varint


def number(field, value):
    return varint(field << 3) + varint(value)


def real(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def inner(field, *parts):
    content = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(content)) + content


FILLER = inner(1, "constant") + real(2, 0.25) + real(5, -1.5e-3)
BLOB = caffe_pb2.BlobProto(shape={"dim": [2, 3]}, data=range(6)).SerializeToString()

#: by fork and field: its number in LayerParameter, and the message as the fork writes it
MESSAGES = {
    "SegNet bn, dense_image_data 45": (45, inner(1, "list.txt") + number(2, 8) + number(3, 1) + inner(9, "root")),
    "old SegNet bn 137": (137, inner(1, FILLER) + inner(2, FILLER) + number(3, 1)),
    "TSN video_data 140": (140, inner(1, "list.txt") + number(4, 3) + number(11, 5) + inner(14, "\xff_%d.jpg")),
    "CTPN lstm 140": (140, number(1, 128) + real(2, 0.5) + inner(3, FILLER) + inner(4, FILLER) + number(5, 1)),
    "CTPN transpose 141": (141, number(1, 2) + number(1, 0) + number(1, 1)),
    "CRF-RNN seg_accuracy 144": (144, number(1, 2) + inner(2, varint(255)) + number(3, 0)),
    "CRF-RNN bn 145": (145, inner(1, FILLER) + inner(2, FILLER) + number(3, 1)),
    "CRF-RNN multi_stage_meanfield 146": (146, number(1, 0) + real(2, 1) + real(3, 160) + number(6, 5)),
    "R-FCN roi_pooling 147": (147, number(1, 7) + number(2, 7) + real(3, 0.0625)),
    "SphereFace margin_inner_product 147": (147, number(1, 512) + number(2, 3) + inner(3, FILLER) + real(5, 1000)),
    "FlowNet2 coeff_schedule 148": (148, real(1, 50000) + real(2, 0.5) + real(3, 1)),
    "TextBoxes++ ctc_loss 148": (148, number(1, 0) + number(2, 95) + number(3, 1)),
    "U-Net mergecrop 148": (148, number(1, 1) + inner(2, b"\1\1") + inner(3, b"\1\0")),
    "Intel engine 149": (149, inner(1, "MKLDNN:\xff")),
    "DenseNet denseblock 147": (147, number(1, 12) + number(3, 12) + inner(10, FILLER) + real(17, 0.2)),
    "shuffle channel of others 164": (164, inner(1, FILLER)),
    "WarpCTC ctc_loss 200": (200, number(1, 37) + number(3, 80) + number(4, 36)),
    "HN bn 200": (200, inner(1, FILLER) + inner(2, FILLER) + number(3, 1)),
    "YOLO v1 detection_loss 200": (200, number(1, 7) + number(2, 20) + number(3, 2) + real(4, 1) + number(8, 1)),
    "R-C3D smooth_l1 200": (200, real(1, 3)),
    "YOLO v1 eval_detection 201": (201, number(1, 7) + number(2, 20) + real(4, 0.5) + number(7, 2)),
    "LSTM 201": (201, number(1, 64) + real(2, 1) + inner(3, FILLER) + inner(4, FILLER) + number(5, 2)),
    "LargeMargin 202": (202, number(1, 10) + number(2, 3) + inner(3, FILLER) + real(9, 5)),
    "R-C3D video_data 203": (203, inner(1, "list") + number(4, 1) + number(8, 1) + inner(13, "\xfe/")),
    "WarpCTC labelsequence_accuracy 203": (203, number(1, 36)),
    "names in place of floats 203": (203, inner(1, "abc") + inner(2, "abc") + inner(6, "abcde")),
    "fillers in place of floats 204": (204, inner(1, FILLER) + inner(4, FILLER) + inner(6, "\xff")),
    "names in place of messages 205": (205, inner(5, "a b") + inner(6, "\xffcd")),
    "fillers in place of fillers 206": (206, inner(3, inner(1, "\xff\xfe"))),
    "C3D video_data 207": (207, inner(1, "list") + number(4, 8) + inner(3, FILLER)),
    "OCR lstm 8266711": (8266711, number(1, 128) + real(2, 0.5) + inner(3, FILLER)),
    "OCR transpose 8266710": (8266710, number(1, 1) + number(1, 0)),
    "OHEM 10000": (10000, number(1, 128) + number(2, (1 << 64) - 1)),
    "YOLO region_loss 209": (209, number(1, 13) + number(2, 20) + real(14, 0.6) + inner(17, "tree")),
    "no message at all 203": (203, b"\x07\xff\xff\xff\xff"),
}


def layer(name, kind, field, content):
    content = content.encode("latin-1") if isinstance(content, str) else content
    return inner(
        100, inner(1, name) + inner(2, kind) + inner(3, "x") + inner(4, name), inner(field, content), inner(7, BLOB)
    )


@pytest.mark.parametrize("case", MESSAGES)
def test_blobs_are_read_whatever_the_parameters_are(tmp_path, case):
    field, content = MESSAGES[case]
    path = tmp_path / "net.caffemodel"
    path.write_bytes(inner(1, "net") + layer("a", "Foreign", field, content) + layer("b", "Foreign", 9999, content))
    with open_weights(str(path)) as layers:
        assert [(each.name, each.type, each.bottom, each.top) for each in layers] == [
            ("a", "Foreign", ["x"], ["a"]), ("b", "Foreign", ["x"], ["b"]),
        ]  # fmt: skip
        for each in layers:
            assert np.array_equal(each.blobs[0].values(), np.arange(6, dtype=np.float32).reshape(2, 3))


def test_such_weights_are_copied_to_a_net(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer("ip", "MarginInnerProduct", 203, b"\x07\xff") + layer("other", "Foreign", 203, b"\x07\xff"))
    net = minicaffe.Net(inner_product(), minicaffe.TEST)
    net.copy_from(str(path))
    assert np.array_equal(net.params["ip"][0].data, np.arange(6).reshape(2, 3))


def inner_product():
    net = caffe_pb2.NetParameter()
    net.layer.add(name="x", type="Input", top=["x"], input_param={"shape": [{"dim": [1, 3]}]})
    ip = net.layer.add(name="ip", type="InnerProduct", bottom=["x"], top=["ip"])
    ip.inner_product_param.num_output, ip.inner_product_param.bias_term = 2, False
    return net


def test_layers_of_the_old_format(tmp_path):
    path = tmp_path / "old.caffemodel"
    v1 = inner(2, "x") + inner(3, "a") + inner(4, "a") + number(5, 4) + inner(6, BLOB) + inner(10, b"\x07\xff")
    path.write_bytes(inner(1, "net") + inner(2, v1) + number(17, 1))
    with open_weights(str(path)) as (only,):
        assert (only.name, only.type) == ("a", "Convolution") and only.blobs[0].count == 6


def test_the_parameters_that_can_be_read_stay(tmp_path):
    """Only where reading fails are they left out: NVIDIA's BatchNorm has its fields among them."""
    path = tmp_path / "net.caffemodel"
    content = layer("a", "BatchNorm", 139, b"\x38\x01")
    path.write_bytes(content)
    assert minicaffe.proto.read_weights(str(path), caffe_pb2.NetParameter()).layer[0].batch_norm_param.scale_bias
    path.write_bytes(content + layer("b", "Foreign", 203, b"\x07"))
    assert not minicaffe.proto.read_weights(str(path), caffe_pb2.NetParameter()).layer[0].HasField("batch_norm_param")


def test_damaged_files_are_refused_as_before(tmp_path):
    whole = layer("a", "Foreign", 203, b"\x07\xff") + layer("b", "Foreign", 203, b"\x07\xff")
    path = tmp_path / "net.caffemodel"
    for damaged in (
        whole[:-1],
        whole[:40],
        b"\x07" + whole,
        whole + b"\xa2",
        b'name: "x" layer { }',
        b"\0\0\0",
        whole * 2 + b"\x0b",
    ):
        path.write_bytes(damaged)
        with pytest.raises(MinicaffeError, match="expected a binary NetParameter, got"), open_weights(str(path)):
            pass


def test_what_is_left_is_the_same_in_both(tmp_path):
    net = caffe_pb2.NetParameter(name="n")
    each = net.layer.add(name="a", type="ReLU", bottom=["x"], top=["y"], loss_weight=[1], propagate_down=[True])
    each.param.add(lr_mult=2)
    each.blobs.add().data.extend([1, 2])
    common = net.SerializeToString()
    each.relu_param.negative_slope = 0.5
    each.bn_param.SetInParent()
    net.force_backward = True
    assert without_parameters(net.SerializeToString()) == common
    assert parse_binary(common, caffe_pb2.NetParameter()).layer[0].param[0].lr_mult == 2
    with pytest.raises(PrototxtError):
        without_parameters(common[:-1])


def test_bytes_with_a_field_of_the_number_0_are_no_net():
    """As those of an HDF5 file, whose first bytes look like a field of eight bytes."""
    with pytest.raises(PrototxtError, match="a field of the number 0"):
        without_parameters(b"\x89HDF\r\n\x1a\n" + bytes(100))
