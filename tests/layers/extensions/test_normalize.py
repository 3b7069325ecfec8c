"""Normalize."""

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer


def normalize(text):
    """The text of a layer in SSD's form."""
    return f"type: 'Normalize' norm_param {{ {text} }}"


def norm_face(text=""):
    return f"type: 'Normalize' normalize_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(normalize("scale_filler { value: 2 }"), [(2, 3, 2, 3)]),
        Case(normalize("across_spatial: false"), [(2, 3, 2, 3)]),
        Case(normalize("across_spatial: false channel_shared: false scale_filler { value: 20 }"), [(2, 3, 2, 3)]),
        Case(normalize("channel_shared: false"), [(2, 3, 4)]),
        Case(normalize("across_spatial: false eps: 0.1"), [(3, 5)]),
        Case("type: 'Normalize'", [(2, 3, 2, 3)]),
        Case(norm_face(), [(4, 5)], num_top=2, gradient=()),
        Case(norm_face("bp_norm: true"), [(2, 3, 2)], num_top=2),
        Case(norm_face("normalize_type: 'L1'"), [(2, 3, 2)], distinct),
        Case(norm_face("normalize_type: 'L1' bp_norm: true"), [(2, 3, 2)], distinct, num_top=2),
    ]


@pytest.mark.parametrize(("across", "axes"), [("true", (1, 2, 3)), ("false", (1,))])
def test_lengths(across, axes):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    layer, _, (top,) = run_layer(
        normalize(f"across_spatial: {across} scale_filler {{ type: 'constant' value: 20 }}"), x
    )
    assert layer.blobs[0].shape == ()
    y = top.data
    assert_close(np.sqrt((y**2).sum(axes)), np.full(y.sum(axes).shape, 20.0), rtol=1e-6)
    assert_close(
        y / x * (x / y)[:, :1, :1, :1], np.ones_like(y) if across == "true" else y / x * (x / y)[:, :1, :1, :1]
    )


def test_the_scale_starts_at_one():
    layer, _, _ = run_layer(normalize("channel_shared: false"), np.ones((1, 3, 2, 2)))
    np.testing.assert_array_equal(layer.blobs[0].data, [1, 1, 1])


def test_a_vector_is_refused():
    with pytest.raises(LayerError, match=r"^Normalize layer 'layer': bottom 0 must be \(N, C, ...\), got \(3,\)"):
        run_layer(normalize(""), np.zeros(3))


# -- NormFace's --------------------------------------------------------------------------------------------------------


def test_without_norm_param_there_is_no_scale(engine):
    """Unit length over the channels of each place, and no parameter that training could move."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    layer, _, (y, norm) = run_layer("type: 'Normalize'", x, num_top=2, dtype=np.float32)
    assert layer.blobs == []
    length = np.sqrt((x**2).sum(1, keepdims=True) + 1e-6)
    assert norm.shape == (2, 1, 4, 5)
    assert_close(norm.read_data(), length)
    assert_close(y.read_data(), x / length)


def test_l1(engine):
    x = np.array([[3.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    _, _, (y,) = run_layer(norm_face("normalize_type: 'L1'"), x, dtype=np.float32)
    assert_close(y.read_data(), [[0.75, -0.25, 0], [0, 0, 0]])


def test_fix_gradient_leaves_out_the_last_division(engine):
    x = np.random.default_rng(0).standard_normal((2, 3))
    diffs = []
    for text in ("", "fix_gradient: true"):
        layer, bottom, top = run_layer(norm_face(text), x, dtype=np.float32)
        top[0].diff[...] = np.arange(6).reshape(2, 3)
        layer.backward(top, [True], bottom)
        diffs.append(bottom[0].diff.copy())
    assert_close(diffs[1], diffs[0] * np.sqrt((x**2).sum(1, keepdims=True)))


@pytest.mark.parametrize("given", ["", "bp_norm: true"])
def test_the_norm_has_a_gradient_only_with_bp_norm(given, engine):
    layer, bottom, top = run_layer(norm_face(given), [[3.0, 4.0]], num_top=2, dtype=np.float32)
    top[1].diff[...] = 10
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, [[6, 8]] if given else [[0, 0]])


def test_which_of_the_two_a_net_has():
    text = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
              layer { name: "face" type: "Normalize" bottom: "x" top: "a" }
              layer { name: "ssd" type: "Normalize" bottom: "x" top: "b" norm_param { } }"""
    assert list(net_from_text(text, 0).params) == ["ssd"]


@pytest.mark.parametrize(
    ("text", "tops", "sentence"),
    [
        (norm_face("normalize_type: 'L3'"), 1, 'normalize_type must be "L1" or "L2", got "L3"'),
        (normalize("") + " normalize_param { }", 1, "norm_param .SSD. allows neither normalize_param nor a second top"),
        (normalize(""), 2, "norm_param .SSD. allows neither normalize_param nor a second top"),
    ],
)
def test_what_is_refused(text, tops, sentence):
    with pytest.raises(LayerError, match=sentence):
        run_layer(text, np.ones((2, 3)), num_top=tops)
