"""BatchNorm: its outputs, its running statistics, and that these are not learned."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer


def bn(text="", more=""):
    return f"type: 'BatchNorm' batch_norm_param {{ {text} }} {more}"


class TestProperties(LayerProperties):
    cases = [
        Case(bn(), [(3, 4, 2, 3)], params=False),
        Case(bn("eps: 0.1 moving_average_fraction: 0.9"), [(6, 3)], params=False),
        Case(bn(), [(4, 2, 5)], params=False),
        Case(bn(), [(2, 3, 1, 2, 4)], params=False),
    ]


def numbers(shape=(4, 3, 2, 5)):
    return np.random.default_rng(0).normal(2, 3, shape)


def test_training_normalises_and_remembers():
    x = numbers()
    layer, bottom, top = build_layer(bn("moving_average_fraction: 0.9 eps: 0.01"), x)
    mean, variance, count = x.mean((0, 2, 3)), x.var((0, 2, 3)), x.size / 3
    for _ in range(2):
        layer.forward(bottom, top)
    assert_close(top[0].data, (x - mean[:, None, None]) / np.sqrt(variance + 0.01)[:, None, None], rtol=1e-6)
    assert_close(layer.blobs[0].data, 1.9 * mean, rtol=1e-6)
    assert_close(layer.blobs[1].data, 1.9 * variance * count / (count - 1), rtol=1e-6)
    assert_close(layer.blobs[2].data, [1.9], rtol=1e-6)


def test_global_statistics_are_used_and_left_alone():
    x = numbers()
    layer, bottom, top = build_layer(bn(), x, phase=1)
    layer.forward(bottom, top)
    assert_close(top[0].data, x / np.sqrt(1e-5), rtol=1e-5)  # untrained: mean 0, variance 0
    stored = [np.array([2.0, 4, 6]), np.array([8.0, 2, 18]), np.array([2.0])]
    for blob, values in zip(layer.blobs, stored, strict=True):
        blob.data[...] = values
    layer.forward(bottom, top)
    expected = (x - np.array([1, 2, 3.0])[:, None, None]) / np.sqrt(np.array([4, 1, 9.0]) + 1e-5)[:, None, None]
    assert_close(top[0].data, expected, rtol=1e-6)
    for blob, values in zip(layer.blobs, stored, strict=True):
        np.testing.assert_array_equal(blob.data, values)
    top[0].diff[...] = dy = numbers(x.shape)
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, dy / np.sqrt(np.array([4, 1, 9.0]) + 1e-5)[:, None, None], rtol=1e-6)


def test_use_global_stats_overrules_the_phase():
    layer, bottom, top = build_layer(bn("use_global_stats: false"), numbers(), phase=1)
    layer.forward(bottom, top)
    assert layer.blobs[2].data[0] == 1  # the test net changes the statistics, as in the original
    layer, bottom, top = build_layer(bn("use_global_stats: true"), numbers(), phase=0)
    layer.forward(bottom, top)
    assert layer.blobs[2].data[0] == 0


def test_backward_in_place_ignores_what_later_layers_did_to_the_top():
    x = numbers()
    results = []
    for spoil in (False, True):
        layer, bottom, top = build_layer(bn(), x, in_place=True)
        layer.forward(bottom, top)
        if spoil:
            top[0].data[...] = np.maximum(top[0].data, 0) * 7
        top[0].diff[...] = numbers(x.shape) ** 2
        layer.backward(top, [True], bottom)
        results.append(bottom[0].diff.copy())
    np.testing.assert_array_equal(*results)


def test_one_value_per_channel():
    layer, bottom, top = build_layer(bn(), numbers((1, 3)))
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, 0)
    np.testing.assert_array_equal(layer.blobs[1].data, 0)


@pytest.mark.parametrize("given", [0, 1, 2, 3])
def test_the_statistics_get_rate_zero(given):
    layer, *_ = build_layer(bn(more="param { lr_mult: 0 }" * given), numbers())
    assert [p.lr_mult for p in layer.layer_param.param] == [0, 0, 0]


@pytest.mark.parametrize("more", ["param { }", "param { lr_mult: 0 } param { lr_mult: 1 }"])
def test_the_statistics_are_not_learned(more):
    with pytest.raises(
        LayerError, match="^BatchNorm layer 'layer': the statistics are not learned: lr_mult of param . must be 0"
    ):
        build_layer(bn(more=more), numbers())


def test_other_shapes_are_refused():
    with pytest.raises(LayerError, match=r"bottom 0 must be \(N, C, ...\), got \(4,\)"):
        build_layer(bn(), numbers((4,)))
    layer, bottom, top = build_layer(bn(), numbers((4, 3)))
    bottom[0].reshape(4, 5)
    with pytest.raises(LayerError, match=r"with 3 channels, got \(4, 5\)"):
        layer.forward(bottom, top)
