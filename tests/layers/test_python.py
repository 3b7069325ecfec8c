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


CLASSES = """
import caffe


class Base(caffe.Layer):
    def setup(self, bottom, top):
        self.given = self.param_str, self.param_str_, self.phase, self.name

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + 1


class OneArgument(Base):
    def __init__(self, param):
        super(OneArgument, self).__init__(param)
        self.seen = param.name


class AnyArguments(Base):
    def __init__(self, *args, **kwargs):
        super(AnyArguments, self).__init__(*args, **kwargs)
        self.seen = args[0].name


class WithoutSuper(Base):
    def __init__(self, param):
        self.seen = param.name


class WithoutArguments(Base):
    def __init__(self):
        self.seen = "layer"


class OfItsOwn:
    def __init__(self, param):
        self.seen = param.name

    setup, reshape, forward = Base.setup, Base.reshape, Base.forward


class TwoArguments(Base):
    def __init__(self, param, factor):
        pass


class AddsInInit(Base):
    def __init__(self, param):
        super(AddsInInit, self).__init__(param)
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 7


class Replaces(Base):
    def setup(self, bottom, top):
        self.blobs = []


class NoReshape(caffe.Layer):
    def forward(self, bottom, top):
        pass


class NoForward(caffe.Layer):
    def reshape(self, bottom, top):
        pass


class Fails(Base):
    def forward(self, bottom, top):
        raise KeyError("of the user")


class Newer(caffe.Layer):
    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def forward_cpu(self, bottom, top):
        top[0].data[...] = bottom[0].data + 1
"""


@pytest.fixture
def classes(tmp_path, monkeypatch):
    (tmp_path / "user_classes_of_a_test.py").write_text(CLASSES)
    (tmp_path / "user_package_of_a_test").mkdir()
    (tmp_path / "user_package_of_a_test" / "__init__.py").write_text("")
    (tmp_path / "user_package_of_a_test" / "broken.py").write_text("import there_is_no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "user_classes_of_a_test"
    for name in [name for name in sys.modules if name.startswith(("user_classes_of_a_test", "user_package_of_a_test"))]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["OneArgument", "AnyArguments", "WithoutSuper", "WithoutArguments", "OfItsOwn"])
def test_a_class_may_have_an_init_of_its_own(classes, name):
    layer, _, top = run_layer("name: 'layer' " + python(classes, name, "param_str: 'p'"), np.zeros((2, 3)), phase=1)
    assert layer.given == ("p", "p", 1, "layer") and layer.seen == "layer"
    np.testing.assert_array_equal(top[0].data, np.ones((2, 3)))
    assert layer.user.rng is layer.rng and layer.user.dtype in (np.float32, np.float64)


def test_a_class_in_the_form_of_minicaffes_own_layers(classes):
    _, _, top = run_layer(python(classes, "Newer"), np.zeros(2))
    assert top[0].data.tolist() == [1, 1]


def test_blobs_added_in_init_are_kept(classes):
    layer, _, _ = run_layer(python(classes, "AddsInInit"), np.zeros(2))
    assert layer.blobs[0].data.tolist() == [7, 7] and layer.blobs[0].dtype == np.float64
    assert layer.user.blobs is layer.blobs


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("TwoArguments", "the __init__ of class 'TwoArguments' must take one argument, the LayerParameter"),
        ("Replaces", "its blobs must not be replaced: add parameters with self.blobs.add_blob"),
        ("NoReshape", "class 'NoReshape' of module 'user_classes_of_a_test' has no method 'reshape'"),
        ("NoForward", "class 'NoForward' of module 'user_classes_of_a_test' has no method 'forward'"),
    ],
)
def test_what_a_class_lacks_is_named(classes, name, sentence):
    with pytest.raises(LayerError, match="^Python layer 'layer': " + sentence):
        run_layer("name: 'layer' " + python(classes, name), [1.0])


def test_backward_is_needed_only_where_a_gradient_is(classes):
    layer, bottom, top = run_layer("name: 'layer' " + python(classes, "OneArgument"), [1.0])
    layer.backward(top, [False], bottom)
    with pytest.raises(LayerError, match="Python layer 'layer': class 'OneArgument' .* has no method 'backward'"):
        layer.backward(top, [True], bottom)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("user_package_of_a_test.mid.deep", r"no module 'user_package_of_a_test.mid.deep' .* has no 'mid'"),
        ("user_package_of_a_test.deep", r"module 'user_package_of_a_test' \(.*__init__.py\) has no 'deep'"),
        ("user_classes_of_a_test.py", r"module 'user_classes_of_a_test' \(.*\) has no 'py'"),
        ("no_such_package_anywhere.mid.deep", "no module 'no_such_package_anywhere.mid.deep' on sys.path"),
        ("sys", "module 'sys' .* has no class 'X'"),
        ("", "must name a module and a class in it, got '' and 'X'"),
        (".relative", "must name a module and a class in it, got '.relative' and 'X'"),
    ],
)
def test_modules_that_are_not_there_are_named(classes, module, sentence):
    with pytest.raises(LayerError, match="^Python layer 'layer': .*" + sentence):
        run_layer("name: 'layer' " + python(module, "X"), [1.0])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions take notes since Python 3.11")
def test_errors_of_the_users_code_name_the_layer(classes):
    with pytest.raises(KeyError, match="of the user") as caught:
        run_layer("name: 'layer' " + python(classes, "Fails"), [1.0])
    assert caught.value.__notes__ == ["In forward of Python layer 'layer' (user_classes_of_a_test.Fails)."]
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module") as caught:
        run_layer("name: 'layer' " + python("user_package_of_a_test.broken", "X"), [1.0])
    assert caught.value.__notes__ == ["In import of Python layer 'layer' (user_package_of_a_test.broken.X)."]
