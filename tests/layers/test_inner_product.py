"""InnerProduct."""

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.proto import TEST, TRAIN
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, run_layer

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"


def ip(text):
    return f"type: 'InnerProduct' inner_product_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(ip("num_output: 4"), [(3, 2, 3)]),
        Case(ip("num_output: 4 transpose: true"), [(3, 5)]),
        Case(ip("num_output: 2 bias_term: false axis: 2"), [(2, 3, 4)]),
        Case(ip("num_output: 2 transpose: true bias_term: false axis: -1"), [(2, 3, 4)]),
        Case(ip("num_output: 3 axis: 0"), [(4,)]),
        Case(ip(""), [(3, 2, 3), (4, 6)]),
        Case(ip("bias_term: false transpose: true"), [(3, 5), (5, 2)]),
        Case(ip("axis: 2"), [(2, 3, 4), (5, 2, 2), (5,)]),
        Case(ip("transpose: true"), [(3, 5), (5, 2), (2,)]),
        Case(ip("num_output: 4 normalize: true bias_term: false"), [(3, 2, 3)], params=False),
        Case(ip("num_output: 4 normalize: true"), [(3, 5)], params=False),
    ]


def run(text, x, weights):
    layer, bottom, top = build_layer(text, x)
    for blob, values in zip(layer.blobs, weights, strict=True):
        blob.data[...] = values
    layer.forward(bottom, top)
    return layer, bottom, top


@pytest.mark.parametrize("transpose", [False, True])
def test_values(transpose):
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 2)), rng.standard_normal((4, 6)), rng.standard_normal(4)
    _, _, (top,) = run(ip(f"num_output: 4 transpose: {str(transpose).lower()}"), x, [w.T if transpose else w, b])
    expected = [[b[o] + sum(w[o, k] * x[n].flat[k] for k in range(6)) for o in range(4)] for n in range(2)]
    assert_close(top.data, expected, rtol=1e-9)


def test_another_size_is_refused():
    layer, bottom, top = run(ip("num_output: 2"), np.zeros((2, 3, 4)), [1, 1])
    bottom[0].reshape(2, 3, 5)
    with pytest.raises(LayerError, match=r"^InnerProduct layer 'layer': .* made for 12 inputs, .* \(2, 3, 5\) has 15"):
        layer.forward(bottom, top)


def test_no_output_is_refused():
    with pytest.raises(LayerError, match="num_output must be at least 1"):
        run("type: 'InnerProduct'", np.zeros((2, 3)), [])


# -- NormFace's extensions ---------------------------------------------------------------------------------------------


def test_normalize_changes_the_stored_rows_and_gives_their_plain_gradient(engine):
    rng = np.random.default_rng(0)
    x, w, dy = rng.standard_normal((3, 5)), rng.standard_normal((4, 5)), rng.standard_normal((3, 4))
    text = ip("num_output: 4 bias_term: false normalize: true")
    layer, bottom, top = build_layer(text, x, dtype=np.float32, phase=TEST)
    layer.blobs[0].data[...] = w
    layer.forward(bottom, top)
    rows = w / np.sqrt((w**2).sum(1, keepdims=True) + 1e-6)
    assert_close(layer.blobs[0].data, rows)
    assert_close(top[0].data, x @ rows.T)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    assert_close(layer.blobs[0].diff, dy.T @ x)
    assert_close(bottom[0].diff, dy @ rows)


def test_the_weights_of_a_bottom_have_no_blob():
    layer, _, (top,) = run_layer(ip("bias_term: false"), np.ones((2, 3)), np.arange(12.0).reshape(4, 3))
    assert not layer.blobs
    assert top.data.tolist() == [[3, 12, 21, 30]] * 2


def test_gradients_of_the_bottoms_are_those_that_are_wanted(engine):
    """A weight that is a bottom is not added to, and one without propagate_down is left alone."""
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((3, 5)), rng.standard_normal((4, 5)), rng.standard_normal(4)
    layer, bottom, top = run_layer(ip(""), x, w, b, dtype=np.float32)
    top[0].diff[...] = dy = rng.standard_normal((3, 4))
    for blob in bottom:
        blob.diff[...] = 7
    layer.backward(top, [False, True, False], bottom)
    assert_close(bottom[1].diff, dy.T @ x)
    assert (bottom[0].diff == 7).all() and (bottom[2].diff == 7).all()


def test_a_net_shares_the_weights_of_a_parameter_layer(engine):
    """Two products of one Parameter, as the class centres of NormFace's nets; its gradient is the sum of both."""
    text = """layer { name: "in" type: "Input" top: "x" top: "z" input_param { shape { dim: 2 dim: 3 } } }
              layer { name: "w" type: "Parameter" top: "w" parameter_param {
                shape { dim: 4 dim: 3 } blob_filler { type: "gaussian" std: 1 } } }
              layer { name: "a" type: "InnerProduct" bottom: "x" bottom: "w" top: "a"
                inner_product_param { bias_term: false } }
              layer { name: "b" type: "InnerProduct" bottom: "z" bottom: "w" top: "b" loss_weight: 1
                inner_product_param { bias_term: false } }
              layer { name: "s" type: "Reduction" bottom: "a" top: "s" loss_weight: 2 }"""
    net = net_from_text(text, TRAIN)
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    net.blobs["x"].data[...], net.blobs["z"].data[...] = x, z
    net.forward()
    net.backward()
    assert net.params["w"][0].data.any()
    assert_close(net.params["w"][0].diff, np.tile(2 * x.sum(0) + z.sum(0), (4, 1)))


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("num_output: 2 normalize: true transpose: true", [(2, 3)], "normalize scales the rows of weights"),
        ("normalize: true", [(2, 3), (4, 3)], "normalize scales the rows of weights"),
        ("", [(2, 3), (4,)], r"bottom 1, the weights, must have two axes or more, got \(4,\)"),
        ("", [(2, 3), (4, 5)], r"bottom 1 must be \(4, 3\), got \(4, 5\)"),
        ("", [(2, 3), (4, 3), (5,)], r"bottom 2 must be \(4,\), got \(5,\)"),
        ("bias_term: false", [(2, 3), (4, 3), (4,)], "bottom 2 is the bias: bias_term must be true"),
    ],
)
def test_bottoms_that_do_not_fit(text, shapes, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(ip(text), *(np.ones(shape) for shape in shapes))
