"""Crop, mean, scale and order of channels as a part of an ONNX graph, against the transformation of data layers."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
from helpers.nets import layer_text, net_from_text
from minicaffe import TEST
from minicaffe.data.mean import write_mean
from minicaffe.errors import ExportError
from minicaffe.export.onnx.checking import Check
from minicaffe.export.onnx.model import to_model
from minicaffe.export.onnx.preprocessing import of_net
from minicaffe.proto import caffe_pb2, parse_text

NET = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }\n'


def preprocessing(transform: str, reverses_channels: bool = False):
    param = parse_text(
        f'layer {{ name: "set" type: "Data" top: "data" transform_param {{ {transform} }} }}', caffe_pb2.NetParameter()
    )
    return of_net(param, ["data"], reverses_channels)


@pytest.mark.parametrize("reverses_channels", [False, True])
@pytest.mark.parametrize(
    "transform",
    [
        "mean_value: 104 mean_value: 117 mean_value: 123",
        "mean_value: 100 scale: 0.017",
        "crop_size: 6 mean_value: 128",
        "crop_size: 6 mirror: true",
        "scale: 0.00390625",
    ],
)
def test_as_a_data_layer_does(transform, reverses_channels):
    made = preprocessing(transform, reverses_channels)
    net = net_from_text(NET + layer_text("relu", "ReLU", "data", "relu"), TEST)
    check = Check(to_model(net, made), made)
    inputs = list(check.random_inputs())
    assert [values["data"].shape[0] for values in inputs] == [2, 4]
    for each in inputs:
        (difference,) = check.run(each)
        assert difference.largest <= 3e-5


def test_a_mean_file_is_cropped_with_the_image(tmp_path):
    mean = np.random.default_rng(0).uniform(0, 255, (3, 9, 8))
    write_mean(tmp_path / "mean.binaryproto", mean)
    made = preprocessing(f"mean_file: '{tmp_path / 'mean.binaryproto'}' crop_size: 6 scale: 0.5")
    net = net_from_text(NET + layer_text("relu", "ReLU", "data", "relu"), TEST)
    exported = to_model(net, made)
    check = Check(exported, made)
    assert next(check.random_inputs())["data"].shape == (2, 3, 9, 8)
    assert all(difference.largest <= 3e-5 for each in check.random_inputs() for difference in check.run(each))
    images = np.zeros((2, 3, 9, 8), np.float32)
    expected = -0.5 * mean[:, 1:7, 1:7]
    np.testing.assert_allclose(made["data"].apply(images, (2, 3, 6, 6))[0], expected, rtol=1e-6)


def test_a_crop_of_any_size():
    made = preprocessing("crop_size: 6")
    net = net_from_text(NET + layer_text("relu", "ReLU", "data", "relu"), TEST)
    check = Check(to_model(net, made), made)
    for height, width in ((6, 6), (7, 12), (13, 9)):
        (difference,) = check.run({"data": np.random.default_rng(0).random((2, 3, height, width)).astype(np.float32)})
        assert difference.largest == 0


def test_what_cannot_be_put_into_a_graph():
    with pytest.raises(ExportError, match="Data layer 'set'.*resize_param"):
        preprocessing("resize_param { prob: 1 height: 3 width: 3 }")
    with pytest.raises(ExportError, match="Data layer 'set'.*noise_param"):
        preprocessing("noise_param { inverse: true }")
    with pytest.raises(
        ExportError, match="no preprocess block and no data layer that reads images for the input data:"
    ):
        of_net(caffe_pb2.NetParameter(), ["data"])
