"""Scale."""

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, run_layer


def scale(text=""):
    return f"type: 'Scale' scale_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(scale(), [(2, 3, 4)]),
        Case(scale("bias_term: true"), [(2, 3, 2, 2)]),
        Case(scale("axis: -1 bias_term: true"), [(2, 3)]),
        Case(scale("axis: 0 num_axes: -1"), [(2, 3)]),
        Case(scale("num_axes: 0 bias_term: true"), [(2, 3)]),
        Case(scale("axis: 0"), [(2, 3, 2), (2, 3)]),
        Case(scale("bias_term: true"), [(2, 3, 2), (3,)]),
        Case(scale("axis: 2"), [(2, 3, 2), ()]),
        Case(scale(), [(2, 2, 70, 70)], params=False, gradient=()),
    ]


def test_values_and_default_fillers():
    x = np.arange(12.0).reshape(2, 3, 2)
    layer, _, top = run_layer(scale("bias_term: true"), x)
    np.testing.assert_array_equal(layer.blobs[0].data, [1, 1, 1])
    np.testing.assert_array_equal(layer.blobs[1].data, [0, 0, 0])
    np.testing.assert_array_equal(top[0].data, x)
    _, _, top = run_layer(scale(), x, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(top[0].data, x * np.array([1, 2, 3])[None, :, None])


@pytest.mark.parametrize(
    ("text", "shapes", "sentence"),
    [
        ("axis: 3", [(2, 3)], r"axis 3 is out of range for a blob of 2 axes"),
        ("num_axes: 3", [(2, 3)], r"axis 1 and num_axes 3 reach beyond the axes of bottom 0 \(2, 3\)"),
        ("num_axes: -2", [(2, 3)], r"num_axes must be -1 .* got -2"),
        ("", [(2, 3), (2, 3)], r"bottom 1 must have the shape of bottom 0 \(2, 3\) from axis 1 on, got \(2, 3\)"),
    ],
)
def test_what_is_refused(text, shapes, sentence):
    with pytest.raises(LayerError, match="^Scale layer 'layer': " + sentence):
        run_layer(scale(text), *(np.zeros(shape) for shape in shapes))


def test_the_stored_scale_is_limited(engine):
    """NormFace's limits change the blob itself, at each forward pass."""
    text = "type: 'Scale' scale_param { min_value: -1 max_value: 2 bias_term: true }"
    layer, bottom, top = run_layer(text, np.ones((1, 3, 2)), dtype=np.float32)
    layer.blobs[0].data[...] = [-5, 1, 7]
    layer.forward(bottom, top)
    assert layer.blobs[0].data.tolist() == [-1, 1, 2]
    assert top[0].data[0].tolist() == [[-1, -1], [1, 1], [2, 2]]


@pytest.mark.parametrize(("limit", "kept"), [("min_value: 0", [0, 5]), ("max_value: 1", [-5, 1])])
def test_one_limit_may_be_absent(limit, kept, engine):
    layer, bottom, top = run_layer(f"type: 'Scale' scale_param {{ {limit} }}", np.ones((1, 2)), dtype=np.float32)
    layer.blobs[0].data[...] = [-5, 5]
    layer.forward(bottom, top)
    assert layer.blobs[0].data.tolist() == kept


def test_a_scale_with_limits_is_not_fused(engine):
    """The convolution, the normalization and the ReLU around it leave the numbers of the layers one by one."""
    text = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 2 kernel_size: 3
          weight_filler { type: "gaussian" std: 1 } } }
        layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }
        layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { filler { value: 9 } max_value: 0.5 } }
        layer { name: "r" type: "ReLU" bottom: "c" top: "c" }"""
    net = net_from_text(text, 0)
    net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    top = net.forward()["c"]
    assert net.params["s"][0].data.tolist() == [0.5, 0.5]
    assert 0 < top.max() < 2  # unit variance times 0.5, where 9 would give more
