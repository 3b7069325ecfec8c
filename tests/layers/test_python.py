"""Python layers."""

import sys
import textwrap

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import run_layer

MODULE = """
import caffe
import numpy as np
from caffe import layers as L
from caffe.proto import caffe_pb2


class Affine(caffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str or 2)
        self.blobs.add_blob(*bottom[0].shape[1:])
        self.blobs[0].data[...] = 1

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data + self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += top[0].diff.sum(axis=0)
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff

    def say(self):
        return "phase %s" % caffe_pb2.Phase.Name(self.phase)


class Wrong(caffe.Layer):
    def setup(self, bottom, top):
        raise ValueError("what the user says")


not_a_class = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "user_layers_of_a_test.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "user_layers_of_a_test"
    sys.modules.pop("user_layers_of_a_test", None)


def python(module, layer, more=""):
    return f"type: 'Python' python_param {{ module: '{module}' layer: '{layer}' {more} }}"


def test_a_layer_with_a_parameter(module):
    x = np.arange(6.0).reshape(2, 3)
    layer, bottom, top = run_layer(python(module, "Affine", "param_str: '3'"), x)
    np.testing.assert_array_equal(top[0].data, 3 * x + 1)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, np.full((2, 3), 3))
    np.testing.assert_array_equal(layer.blobs[0].diff, [2, 2, 2])
    assert layer.param_propagate_down == [True]


def test_the_users_attributes_are_the_layers(module):
    layer, _, _ = run_layer(python(module, "Affine"), np.zeros((2, 3)), phase=1)
    assert layer.factor == 2 and layer.say() == "phase TEST" and layer.type == "Python"
    with pytest.raises(AttributeError, match="no_such_thing"):
        layer.no_such_thing  # noqa: B018


def test_a_new_batch_is_reshaped_by_the_user(module):
    layer, bottom, top = run_layer(python(module, "Affine"), np.zeros((2, 3)))
    bottom[0].reshape(5, 3)
    layer.forward(bottom, top)
    assert top[0].shape == (5, 3)


def test_the_module_may_lie_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "user_layers_of_a_folder.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    run_layer(python("user_layers_of_a_folder", "Affine"), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("name", "layer", "sentence"),
    [
        ("no_such_module_anywhere", "X", "no module 'no_such_module_anywhere' on sys.path or in "),
        ("user_layers_of_a_test", "X", r"module 'user_layers_of_a_test' \(.*\) has no class 'X'"),
        ("user_layers_of_a_test", "not_a_class", "has no class 'not_a_class'"),
    ],
)
def test_what_is_not_there_is_named(module, name, layer, sentence):
    with pytest.raises(LayerError, match="^Python layer 'layer': .*" + sentence):
        run_layer(python(name, layer), [1.0])


def test_the_users_own_errors_come_through(module):
    with pytest.raises(ValueError, match="what the user says"):
        run_layer(python(module, "Wrong"), [1.0])
