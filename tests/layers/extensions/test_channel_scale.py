"""ChannelScale."""

import numpy as np
import pytest

from helpers.nets import net_from_text
from minicaffe.errors import LayerError
from minicaffe.proto import TEST
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, run_layer


def channel_scale(text=""):
    return f"type: 'ChannelScale' channel_scale_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(channel_scale(), [(2, 3, 2, 2), (2, 1, 2, 2)]),
        Case(channel_scale(), [(3, 4), (3, 1)]),
        Case(channel_scale("do_forward: false do_backward_scale: false do_backward_feature: false"),
             [(2, 3, 2), (2, 2)], gradient=[0]),
        Case(channel_scale("global_scale: true"), [(3, 4), (3, 1)], gradient=(), phase=TEST),
    ]  # fmt: skip


def test_values(engine):
    rng = np.random.default_rng(0)
    x, s = rng.standard_normal((2, 3, 2, 2)), rng.standard_normal((2, 1, 2, 2))
    dy = rng.standard_normal(x.shape)
    layer, bottom, top = run_layer(channel_scale(), x, s, dtype=np.float32)
    top[0].diff[...] = dy
    layer.backward(top, [True, True], bottom)
    assert_close(top[0].data, s * x)
    assert_close(bottom[0].diff, s * dy)
    assert_close(bottom[1].diff, (x * dy).sum(1, keepdims=True))


def test_switches_turn_parts_off(engine):
    text = channel_scale("do_forward: false do_backward_feature: false do_backward_scale: false")
    layer, bottom, top = run_layer(text, np.full((2, 3), 5.0), np.full((2, 1), 2.0), dtype=np.float32)
    top[0].diff[...], bottom[1].diff[...] = 3, 7
    layer.backward(top, [True, True], bottom)
    assert (top[0].data == 5).all() and (bottom[0].diff == 3).all() and (bottom[1].diff == 0).all()


def test_one_scale_is_a_running_mean(engine):
    """The first batch's mean, then a hundredth of each; in TEST as it is.  Gradients are those of the plain form."""
    text = channel_scale("global_scale: true max_global_scale: 10")
    layer, bottom, top = build_layer(text, np.ones((2, 3)), [[1.0], [-3.0]], num_top=2, dtype=np.float32)
    seen = []
    for s in ([1, -3], [102, 102], [9000, 9000]):
        bottom[1].data[...] = np.reshape(s, (2, 1))
        layer.forward(bottom, top)
        seen.append((float(top[0].data[0, 0]), float(top[1].data[0])))
    assert_close(seen, [(2, 2), (3, 3), (10, 10)])
    top[0].diff[...] = 1
    layer.backward(top, [True, True], bottom)
    assert_close(bottom[0].diff, np.full((2, 3), 9000))
    assert_close(bottom[1].diff, np.full((2, 1), 3))
    other, bottom, top = build_layer(text, np.ones((2, 3)), np.ones((2, 1)), phase=TEST, dtype=np.float32)
    other.blobs[0].data[...] = 4
    other.forward(bottom, top)
    assert (top[0].data == 4).all() and other.blobs[0].data.tolist() == [4]


def test_the_running_mean_is_not_learned():
    text = """layer { name: "in" type: "Input" top: "x" top: "s"
                input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
              layer { name: "c" type: "ChannelScale" bottom: "x" bottom: "s" top: "y"
                channel_scale_param { global_scale: true } }"""
    assert net_from_text(text, 0).lr_mults == [0]


@pytest.mark.parametrize(
    ("text", "shapes", "tops", "sentence"),
    [
        ("", [(2, 3, 4), (2, 3)], 1, r"bottoms must be \(N, C, ...\) and one number for each sample and place"),
        ("", [(2, 3), (2, 1)], 2, "the second top, the scale, needs global_scale"),
    ],
)
def test_what_is_refused(text, shapes, tops, sentence):
    with pytest.raises(LayerError, match="^ChannelScale layer 'layer': " + sentence):
        run_layer(channel_scale(text), *(np.zeros(shape) for shape in shapes), num_top=tops)
