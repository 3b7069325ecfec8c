"""The walk through a net: names of values, in-place layers, layers that cannot be expressed."""

import sys
from types import ModuleType

import numpy as np
import pytest

from helpers.nets import layer_text, net_from_text
from minicaffe import TEST, Layer
from minicaffe.errors import ExportError

onnx = pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
from helpers.onnx_runs import difference  # noqa: E402
from minicaffe.export.onnx.model import to_model  # noqa: E402

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }\n'


def net_of(*layers: str):
    return net_from_text(DATA + "".join(layers), TEST)


def test_in_place_layers_are_renamed_and_the_last_value_has_the_name():
    net = net_of(
        layer_text("a", "ReLU", "data", "a"),
        layer_text("b", "ReLU", "a", "a", "relu_param { negative_slope: -0.5 }"),
        layer_text("drop", "Dropout", "a", "a"),
        layer_text("c", "ReLU", "a", "c"),
    )
    model = to_model(net).model
    onnx.checker.check_model(onnx.load_from_string(model.SerializeToString()))
    assert [list(node.output) for node in model.graph.node] == [["a/a"], ["a/b"], ["c"]]
    assert [each.name for each in model.graph.output] == ["c"]
    data = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    assert difference(net, {"data": data}) == 0


def test_an_output_that_is_another_value():
    net = net_of(layer_text("a", "ReLU", "data", "a"), layer_text("drop", "Dropout", "a", "out"))
    assert difference(net, {"data": np.ones((2, 3), np.float32)}) == 0


def test_in_place_on_an_input():
    net = net_of(layer_text("a", "ReLU", "data", "data"))
    model = to_model(net).model
    assert [each.name for each in model.graph.input] == ["data"]
    assert len(model.graph.output) == 1


class Own(Layer):
    """A Python layer."""

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data


def test_all_layers_that_cannot_be_expressed_are_listed(monkeypatch):
    module = ModuleType("layers_without_onnx_form")
    monkeypatch.setattr(module, "Own", Own, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    python = f'python_param {{ module: "{module.__name__}" layer: "Own" }}'
    net = net_of(layer_text("a", "Python", "data", "a", python), layer_text("b", "Python", "a", "b", python))
    with pytest.raises(ExportError, match="Python layer 'a'.*Python layer 'b'"):
        to_model(net)


def test_an_axis_whose_length_depends_on_values_is_named():
    net = net_of(
        'layer { name: "chosen" type: "Input" top: "chosen" input_param { shape { dim: 2 } } }\n',
        layer_text("a", "Filter", "data chosen", "a"),
        layer_text("b", "ReLU", "a", "b"),
        layer_text("c", "Filter", "data chosen", "c"),
    )
    shapes = {each.name: each.type.tensor_type for each in to_model(net).model.graph.output}
    assert [dim.dim_param or dim.dim_value for dim in shapes["c"].shape.dim] == ["c_0", 3]
    assert not shapes["b"].HasField("shape")
