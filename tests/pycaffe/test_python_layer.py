"""Python layers of users, found by module and class."""

import sys
import textwrap

import numpy as np
import pytest

import minicaffe as caffe
from minicaffe.errors import MinicaffeError

LAYERS = '''
    import numpy as np
    import caffe


    class Times(caffe.Layer):
        def setup(self, bottom, top):
            self.factor = float(self.param_str or 10)

        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].data.shape)

        def forward(self, bottom, top):
            top[0].data[...] = self.factor * bottom[0].data

        def backward(self, top, propagate_down, bottom):
            bottom[0].diff[...] = self.factor * top[0].diff


    class Counter(caffe.Layer):
        """0, 1, 2, ..."""

        def setup(self, bottom, top):
            top[0].reshape(4)
            self.restart()

        def restart(self):
            self.next = 0

        def reshape(self, bottom, top):
            pass

        def forward(self, bottom, top):
            top[0].data[...] = range(self.next, self.next + 4)
            self.next += 4

        def backward(self, top, propagate_down, bottom):
            pass


    class Fails(caffe.Layer):
        def setup(self, bottom, top):
            raise RuntimeError("not today")


    class Learns(caffe.Layer):
        def setup(self, bottom, top):
            self.blobs.add_blob(1)
            self.blobs[0].data[0] = 0

        def reshape(self, bottom, top):
            top[0].reshape(1)

        def forward(self, bottom, top):
            pass

        def backward(self, top, propagate_down, bottom):
            self.blobs[0].diff[0] = 1


    class Phase(caffe.Layer):
        def setup(self, bottom, top):
            pass

        def reshape(self, bottom, top):
            top[0].reshape()

        def forward(self, bottom, top):
            top[0].data[()] = self.phase
'''


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a function that writes a net of Python layers and builds it."""
    (tmp_path / "user_layers_for_test.py").write_text(textwrap.dedent(LAYERS))
    monkeypatch.syspath_prepend(str(tmp_path))
    had_caffe = "caffe" in sys.modules

    def net(text, phase=caffe.TRAIN):
        for cls in ("Times", "Counter", "Fails", "Learns", "Phase", "Nothing"):
            text = text.replace(
                f"@{cls}", f"type: 'Python' python_param {{ module: 'user_layers_for_test' layer: '{cls}' }}"
            )
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), phase)

    yield net
    sys.modules.pop("user_layers_for_test", None)
    if not had_caffe:
        for name in [name for name in sys.modules if name == "caffe" or name.startswith("caffe.")]:
            del sys.modules[name]


CHAIN = """force_backward: true input: 'data' input_shape { dim: 10 dim: 9 dim: 8 }
    layer { name: 'one' bottom: 'data' top: 'one' @Times }  layer { name: 'two' bottom: 'one' top: 'two' @Times }
    layer { name: 'three' bottom: 'two' top: 'three' type: 'Python'
            python_param { module: 'user_layers_for_test' layer: 'Times' param_str: '3' } }"""


def test_forward_backward_and_param_str(build):
    net = build(CHAIN)
    net.blobs["data"].data[...] = 8
    net.forward()
    assert (net.blobs["three"].data == 8 * 300).all()
    net.blobs["three"].diff[...] = 7
    net.backward()
    assert (net.blobs["data"].diff == 7 * 300).all()


def test_reshape(build):
    net = build(CHAIN)
    net.blobs["data"].reshape(4, 4, 4, 4)
    net.forward()
    assert all(blob.data.shape == (4, 4, 4, 4) for blob in net.blobs.values())


def test_attributes_are_reached_through_the_layer(build):
    net = build("layer { name: 'count' top: 'count' @Counter }")
    seen = [net.forward()["count"].copy() for _ in range(3)]
    np.testing.assert_array_equal(np.concatenate(seen), range(12))
    net.layers[0].restart()
    np.testing.assert_array_equal(net.forward()["count"], seen[0])


def test_exceptions_pass_through(build):
    with pytest.raises(RuntimeError, match="not today"):
        build("layer { name: 'fails' top: 'fails' @Fails }")


def test_own_blobs(build, tmp_path):
    text = "force_backward: true layer { name: 'layer' top: 'top' @Learns }"
    net = build(text)
    net.forward()
    net.backward()
    layer = net.layers[list(net._layer_names).index("layer")]
    assert layer.blobs[0].data[0] == 0 and layer.blobs[0].diff[0] == 1
    layer.blobs[0].data[0] += layer.blobs[0].diff[0]
    net.save(str(tmp_path / "w.caffemodel"))
    layer.blobs[0].data[0] = -1
    net.copy_from(str(tmp_path / "w.caffemodel"))
    assert layer.blobs[0].data[0] == 1 == net.params["layer"][0].data[0]
    other = build(text)
    other.share_with(net)
    assert other.layers[0].blobs[0].data[0] == 1


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_phase(build, phase):
    assert build("layer { name: 'phase' top: 'phase' @Phase }", phase).forward()["phase"] == phase


def test_what_cannot_be_found(build):
    with pytest.raises(MinicaffeError, match="has no class 'Nothing'"):
        build("layer { name: 'x' top: 'x' @Nothing }")
    with pytest.raises(MinicaffeError, match="no module 'there_is_none'"):
        build("layer { name: 'x' top: 'x' type: 'Python' python_param { module: 'there_is_none' layer: 'C' } }")
