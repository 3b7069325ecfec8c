"""DenseBlock, by a plain loop, and against a net of Caffe's own layers."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.proto import TEST, TRAIN
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, run_layer

FILLERS = """Filter_Filler { type: 'gaussian' std: 0.4 } BN_Scaler_Filler { type: 'uniform' min: 0.5 max: 1.5 }
BN_Bias_Filler { type: 'gaussian' std: 0.3 }"""


def block(text="", count=2, growth=2):
    return f"type: 'DenseBlock' denseblock_param {{ numTransition: {count} growthRate: {growth} {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    #: Inputs of the ReLUs are random: a few may lie so near to 0 that a step of 1e-5 crosses it; the seed has none.
    cases = [
        Case(block(), [(2, 2, 3, 2)], options={"step": 1e-6, "tolerance": 1e-5}),
        Case(block("use_BC: true", growth=1), [(2, 2, 2, 3)], options={"step": 1e-6, "tolerance": 1e-5}),
        Case(block("use_BC: true", growth=1), [(2, 2, 2, 3)], phase=TEST, options={"step": 1e-6, "tolerance": 1e-5}),
    ]


def normalized(x, scale, shift, mean, variance):
    each = (slice(None), None, None)
    return np.maximum(scale[each] * (x - mean[each]) / np.sqrt(variance[each] + 1e-5) + shift[each], 0)


def convolved(x, w):
    """A convolution with turned kernels, (N, C, H, W) by (O, C, k, k), by loops over places."""
    pad, size = w.shape[2] // 2, w.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y = np.zeros((len(x), len(w), *x.shape[2:]))
    for i, j in np.ndindex(x.shape[2:]):
        for a, b in np.ndindex(size, size):
            y[:, :, i, j] += padded[:, :, i + a, j + b] @ w[:, :, size - 1 - a, size - 1 - b].T
    return y


def slow_block(x, blobs, count, bottleneck, of_batch):
    """The top, and the mean and variance of each normalization."""
    values, seen = [np.asarray(blob, np.float64) for blob in blobs], []

    def normalize(x, group, t):
        scale, shift, mean, variance = (values[(group + i) * count + t].ravel() for i in range(4))
        own = x.mean((0, 2, 3)), x.var((0, 2, 3))
        seen.append(own)
        return normalized(x, scale, shift, *(own if of_batch else (mean, variance)))

    for t in range(count):
        y = normalize(x, 1, t)
        if bottleneck:
            y = normalize(convolved(y, values[5 * count + t]), 6, t)
        x = np.concatenate([x, convolved(y, values[t])], 1)
    return x, seen


@pytest.mark.parametrize("bottleneck", [False, True])
def test_values_and_running_statistics(engine, bottleneck):
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 3))
    text = block(f"use_BC: {str(bottleneck).lower()} initChannel: 77 moving_average_fraction: 0.3", 3)
    layer, bottom, top = build_layer(text, x, dtype=np.float32)
    before = [blob.data.copy() for blob in layer.blobs]
    assert len(before) == (31 if bottleneck else 16) and top[0].shape == (3, 8, 4, 3)
    assert all((values == 1).all() for values in before[12:15]) and not any(values.any() for values in before[9:12])
    layer.forward(bottom, top)
    expected, seen = slow_block(x, before, 3, bottleneck, True)
    assert_close(top[0].data, expected)
    groups = [(t, group) for t in range(3) for group in ((3, 8) if bottleneck else (3,))]
    for (t, group), (mean, variance) in zip(groups, seen):
        assert_close(layer.blobs[group * 3 + t].data.ravel(), 0.3 * mean)
        assert_close(layer.blobs[(group + 1) * 3 + t].data.ravel(), 0.7 + 0.3 * variance)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_the_running_statistics_serve_in_test(engine, bottleneck):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 2, 3, 3))
    layer, bottom, top = build_layer(block(f"use_BC: {str(bottleneck).lower()}"), x, phase=TEST, dtype=np.float32)
    for blob in layer.blobs:
        blob.data[...] = blob.data + 0.2 * rng.random(blob.shape)
    before = [blob.data.copy() for blob in layer.blobs]
    layer.forward(bottom, top)
    assert_close(top[0].data, slow_block(x, before, 2, bottleneck, False)[0])
    for blob, values in zip(layer.blobs, before):
        np.testing.assert_array_equal(blob.data, values)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_dropout(engine, phase):
    """In TRAIN outputs of steps are 0 or twice as large; a state holds the position of the random numbers."""
    x = np.random.default_rng(2).standard_normal((4, 2, 6, 6))
    text = block("use_dropout: true dropout_amount: 0.5", 1, 3)
    layer, bottom, top = build_layer(text, x, phase=phase, dtype=np.float32)
    plain, below, above = build_layer(block("", 1, 3), x, phase=phase, dtype=np.float32)
    for own, other in zip(plain.blobs, layer.blobs):
        own.data[...] = other.data
    plain.forward(below, above)
    state = layer.state()
    layer.forward(bottom, top)
    y, kept = top[0].data.copy(), top[0].data[:, 2:] != 0
    assert_close(y[:, :2], x)
    if phase == TEST:
        assert kept.mean() > 0.9
        assert_close(y, above[0].data)
        return
    assert 0.4 < kept.mean() < 0.6
    assert_close(y[:, 2:], 2 * kept * above[0].data[:, 2:])
    top[0].diff[...] = 0
    top[0].diff[:, 2:] = ~kept  # of what was dropped there is no gradient
    layer.backward(top, [True], bottom)
    assert not bottom[0].diff.any() and not any(blob.diff.any() for blob in layer.blobs)
    layer.forward(bottom, top)
    assert (top[0].data != y).any()
    layer.load_state(state)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, y)


def test_statistics_are_not_learned():
    layer, _, _ = build_layer(block("use_BC: true"), np.zeros((1, 2, 3, 3)))
    rates = [param.lr_mult for param in layer.layer_param.param]
    assert rates == [1] * 6 + [0] * 4 + [1] * 6 + [0] * 5
    layer, _, _ = build_layer(block(), np.zeros((1, 2, 3, 3)))
    assert [param.lr_mult for param in layer.layer_param.param] == [1] * 6 + [0] * 5


def test_other_sizes_between_passes(engine):
    x = np.random.default_rng(3).standard_normal((2, 2, 3, 3))
    layer, bottom, top = run_layer(block(), x, phase=TEST, dtype=np.float32)
    first = top[0].data.copy()
    for shape in [(3, 2, 5, 4), (2, 2, 3, 3)]:
        bottom[0].reshape(shape)
        bottom[0].data[...] = x if shape[0] == 2 else 1
        layer.forward(bottom, top)
        assert top[0].shape == (shape[0], 6, *shape[2:])
    np.testing.assert_allclose(top[0].data, first, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (block(count=0), "numTransition and growthRate must be at least 1"),
        (block("filter_H: 5"), "filter_H must be 3, got 5"),
    ],
)
def test_errors(text, message):
    with pytest.raises(LayerError, match=f"^DenseBlock layer 'layer': {message}"):
        build_layer(text, np.zeros((1, 2, 3, 3)))
    with pytest.raises(LayerError, match=r"bottom 0 must be \(N, C, H, W\) with channels, got \(1, 2\)"):
        build_layer(block(), np.zeros((1, 2)))
