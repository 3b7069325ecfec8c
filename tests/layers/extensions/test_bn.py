"""BN, in both forms of that name."""

import functools

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer

SEGNET = "scale_filler { type: 'constant' value: 1 } shift_filler { type: 'constant' value: 0.001 }"
LATER = "slope_filler { type: 'constant' value: 1 } bias_filler { type: 'constant' value: 0 } momentum: 0.9"


def bn(text):
    return f"type: 'BN' bn_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(bn(SEGNET), [(3, 4, 2, 3)]),
        Case(bn(SEGNET), [(5, 3)]),
        Case(bn(SEGNET + " bn_mode: INFERENCE"), [(3, 4, 2, 3)]),
    ]


build = functools.partial(build_layer, dtype=np.float32)


def numbers(seed=0):
    return np.random.default_rng(seed).normal(2, 3, (4, 3, 2, 5))


@pytest.mark.parametrize("phase", [0, 1])
def test_segnets_form_takes_the_batch_in_either_phase(phase, engine):
    x = numbers()
    layer, bottom, top = build(bn(SEGNET), x, phase=phase, num_top=3)
    layer.forward(bottom, top)
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    assert_close(top[0].data, (x - mean) / np.sqrt(variance) + 0.001)
    assert_close(top[1].data, mean)
    assert_close(top[2].data, variance)
    assert [blob.shape for blob in layer.blobs] == [(1, 3, 1, 1)] * 2


def test_inference_is_scale_and_shift(engine):
    layer, bottom, top = build(bn(SEGNET + " bn_mode: INFERENCE"), numbers())
    layer.blobs[0].data.ravel()[...] = [1, 2, 3]
    layer.forward(bottom, top)
    assert_close(top[0].data, numbers() * np.array([1, 2, 3])[:, None, None] + 0.001)


def test_the_later_form_keeps_running_statistics(engine):
    x = numbers()
    layer, bottom, top = build(bn(LATER), x)
    layer.forward(bottom, top)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    assert_close(layer.blobs[2].data.ravel(), 0.1 * mean)
    assert_close(layer.blobs[3].data.ravel(), 0.1 * variance)
    assert [p.lr_mult for p in layer.layer_param.param] == [1, 1, 0, 0]


@pytest.mark.parametrize(("more", "phase"), [("", 1), ("frozen: true", 0)])
def test_the_later_form_uses_them(more, phase, engine):
    x, dy = numbers(), numbers(1)
    layer, bottom, top = build(bn(f"{LATER} {more}"), x, phase=phase)
    mean, variance, scale = np.array([1, 2, 3.0]), np.array([4, 1, 9.0]), np.array([1, 2, 3.0])
    for blob, values in zip(layer.blobs, (scale, 0 * mean, mean, variance), strict=True):
        blob.data.ravel()[...] = values
    layer.forward(bottom, top)
    factor = (scale / np.sqrt(variance + 1e-5))[:, None, None]
    assert_close(top[0].data, (x - mean[:, None, None]) * factor)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, dy * factor)
    assert_close(layer.blobs[1].diff.ravel(), dy.sum((0, 2, 3)))
    assert_close(layer.blobs[2].data.ravel(), mean)
    if more:
        assert [p.lr_mult for p in layer.layer_param.param] == [0, 0, 0, 0]


def test_another_number_of_channels_is_refused():
    layer, bottom, top = build(bn(SEGNET), numbers())
    bottom[0].reshape(4, 5, 2, 5)
    with pytest.raises(LayerError, match=r"^BN layer 'layer': bottom 0 .* with 3 channels, got \(4, 5, 2, 5\)"):
        layer.forward(bottom, top)
