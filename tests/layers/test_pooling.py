"""Pooling: sizes, values by plain loops, masks, and windows that extend beyond the border."""

import numpy as np
import pytest

from helpers import references
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, distinct, positive, run_layer, top_of


def pool(text):
    return f"type: 'Pooling' pooling_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(pool("kernel_size: 3 stride: 2"), [(2, 3, 6, 5)], distinct),
        Case(pool("kernel_size: 2 stride: 2 pad: 1"), [(2, 2, 5, 4)], distinct),
        Case(pool("kernel_h: 1 kernel_w: 3 stride_h: 3 stride_w: 1 round_mode: FLOOR"), [(1, 2, 5, 4)], distinct),
        Case(pool("kernel_size: 3 stride: 1 pad: 1"), [(2, 2, 4, 4)], distinct),
        Case(pool("kernel_size: 1 stride: 2"), [(1, 2, 6, 3)], distinct),
        Case(pool("global_pooling: true"), [(2, 3, 4, 5)], distinct),
        Case(pool("pool: AVE kernel_size: 3 stride: 2"), [(2, 3, 6, 5)]),
        Case(pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"), [(2, 3, 6, 7)]),
        Case(pool("pool: AVE kernel_size: 1 stride: 2"), [(1, 2, 6, 3)]),
        Case(pool("pool: AVE global_pooling: true"), [(2, 3, 4, 5)]),
        Case(pool("kernel_size: 3 stride: 2"), [(2, 3, 4, 16)], distinct),
        Case(pool("kernel_size: 2 stride: 2"), [(2, 3, 6, 8)], distinct),
        Case(pool("pool: AVE kernel_size: 3 stride: 2"), [(2, 3, 4, 16)]),
        Case(pool("pool: AVE kernel_size: 2 stride: 2"), [(2, 3, 6, 8)]),
        Case(pool("kernel_size: 3 stride: 2 pad: 1"), [(2, 2, 4, 5, 6)], distinct),
        Case(pool("kernel_size: 2 stride: 2 pad: 1 dilation: 2"), [(1, 2, 5, 6)], distinct),
        Case(pool("pool: AVE kernel_size: 3 stride: 2 pad: 1 dilation: 2"), [(1, 2, 4, 5, 6)]),
        Case(pool("pool: AVE kernel_size: 3 stride: 2"), [(2, 3, 5)]),
        Case(pool("pool: AVE global_pooling: true"), [(2, 2, 2, 3, 4)]),
        Case(pool("global_pooling: true"), [(2, 2, 2, 3, 4)], distinct),
        Case(pool("pool: STOCHASTIC kernel_size: 3 stride: 2"), [(2, 3, 6, 5)], positive, gradient=()),
        Case(pool("pool: STOCHASTIC kernel_size: 2 stride: 2"), [(2, 3, 5, 4)], positive, gradient=(), phase=1),
    ]


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 2, 1), (2, 3, 0), (1, 2, 0), (4, 1, 3), (3, 3, 2)]
)
@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (1, 2, 5, 8)])
def test_values_and_masks(kernel, stride, pad, shape):
    x = np.random.default_rng(0).integers(0, 4, shape).astype(float)  # many ties: the first maximum counts
    text = f"kernel_size: {kernel} stride: {stride} pad: {pad}"
    y, mask = references.pooling(x, kernel, stride, pad)
    layer, bottom, top = run_layer(pool(text), x, num_top=2)
    np.testing.assert_array_equal(top[0].data, y)
    np.testing.assert_array_equal(top[1].data, mask)
    top[0].diff[...] = np.random.default_rng(1).standard_normal(y.shape)
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, references.scatter(top[0].diff, mask, x.shape), rtol=1e-9)
    means, _ = references.pooling(x, kernel, stride, pad, average=True)
    assert_close(top_of(pool(f"pool: AVE {text}"), x), means, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "text", "window"),
    [
        ((2, 2, 7), "kernel_size: 3 stride: 2 pad: 1", (3, 2, 1)),
        ((2, 2, 5, 6, 7), "kernel_size: 2 stride: 2", (2, 2, 0)),
        (
            (1, 2, 4, 7, 6),
            "kernel_shape { dim: 1 dim: 3 dim: 2 } stride_shape { dim: 2 dim: 2 dim: 3 } "
            "pad_shape { dim: 0 dim: 1 dim: 1 }",
            ((1, 3, 2), (2, 2, 3), (0, 1, 1)),
        ),
        (
            (1, 2, 5, 6, 4),
            "kernel_size: 3 kernel_size: 2 kernel_size: 2 stride: [1, 2, 2] pad: 1 pad: 0 pad: 1",
            ((3, 2, 2), (1, 2, 2), (1, 0, 1)),
        ),
        ((1, 2, 5, 6, 4), "kernel_size: 2 kernel_depth: 3 stride: 2", ((3, 2, 2), (1, 2, 2), 0)),
        ((1, 1, 3, 4, 3, 4), "kernel_size: 2 stride: 2 pad: 1", (2, 2, 1)),
        ((2, 2, 8, 7), "kernel_size: 3 stride: 1 dilation: 2", (3, 1, 0, 2)),
        ((2, 2, 9, 8), "kernel_size: 2 stride: 2 pad: 2 dilation: 3 dilation: 2", (2, 2, 2, (3, 2))),
        ((1, 2, 6, 7, 5), "kernel_size: 2 stride: 2 pad: 1 dilation: 3", (2, 2, 1, 3)),
        ((1, 1, 2, 3), "kernel_size: 2 stride: 1 pad: 3 dilation: 4", (2, 1, 3, 4)),
    ],
)
def test_any_number_of_axes_and_dilation(shape, text, window, engine):
    kernel, stride, pad, dilation = (*window, 1)[:4]
    x = np.random.default_rng(0).integers(0, 4, shape).astype(float)
    y, mask = references.pooling(x, kernel, stride, pad, dilation=dilation)
    assert_close(top_of(pool(text), x), y, rtol=1e-9)
    means, _ = references.pooling(x, kernel, stride, pad, True, dilation)
    layer, bottom, top = run_layer(pool(text), x, num_top=2)
    np.testing.assert_array_equal(top[0].data, y)
    np.testing.assert_array_equal(top[1].data, mask)
    dy = top[0].diff[...] = np.random.default_rng(1).standard_normal(y.shape)
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, references.scatter(dy, mask, x.shape), rtol=1e-9)
    layer, bottom, top = run_layer(pool(f"pool: AVE {text}"), x)
    assert_close(top[0].data, means, rtol=1e-6)
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    assert_close((bottom[0].diff * x).sum(), (dy * means).sum(), rtol=1e-6)  # the mean is linear


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 6, 16), (1, 2, 2, 8), (3, 7, 8, 24), (1, 1, 64, 72)])
def test_halved_pictures(kernel, shape):
    x = np.random.default_rng(0).integers(0, 4, shape).astype(float)
    y, mask = references.pooling(x, kernel, 2, 0)
    text = f"kernel_size: {kernel} stride: 2"
    layer, bottom, top = run_layer(pool(text), x)
    np.testing.assert_array_equal(top[0].data, y)
    top[0].diff[...] = np.random.default_rng(1).standard_normal(y.shape)
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, references.scatter(top[0].diff, mask, x.shape), rtol=1e-9)
    means, _ = references.pooling(x, kernel, 2, 0, average=True)
    assert_close(top_of(pool(f"pool: AVE {text}"), x), means, rtol=1e-6)


@pytest.mark.parametrize("text", ["ceil_mode: false", "round_mode: FLOOR"])
def test_sizes_rounded_down(text):
    x = np.zeros((1, 1, 6, 6))
    assert run_layer(pool(f"kernel_size: 3 stride: 2 {text}"), x)[2][0].shape == (1, 1, 2, 2)
    assert run_layer(pool("kernel_size: 3 stride: 2"), x)[2][0].shape == (1, 1, 3, 3)


def test_stochastic_draws_in_proportion():
    x = np.zeros((4000, 1, 2, 2))
    x[:] = [[1, 2], [0, 5]]
    layer, bottom, top = run_layer(pool("pool: STOCHASTIC kernel_size: 2"), x)
    shares = [(top[0].data == value).mean() for value in (1, 2, 0, 5)]
    assert_close(shares, [1 / 8, 2 / 8, 0, 5 / 8], atol=0.05)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal((bottom[0].diff * x).sum((1, 2, 3)), top[0].data.ravel())
    assert_close(top_of(pool("pool: STOCHASTIC kernel_size: 2"), x, phase=1), 30 / 8)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        (
            "kernel_size: 2",
            (64, 500),
            r"bottom 0 must be \(N, C, H, W\), or have another number of spatial axes, got \(64, 500\)",
        ),
        ("kernel_size: 2 pad: 2", (1, 1, 4, 4), "pad must be smaller than the kernel"),
        ("kernel_size: 5", (1, 1, 3, 3), r"kernel \(5, 5\) does not fit"),
        ("pool: STOCHASTIC kernel_size: 2 pad: 1", (1, 1, 3, 3), "stochastic pooling cannot pad"),
        ("", (1, 1, 3, 3), "kernel_size, or kernel_h and kernel_w, must be given"),
        ("pool: STOCHASTIC kernel_size: 2", (1, 1, 3, 3, 3), "stochastic pooling is for two spatial axes"),
        ("kernel_size: 2 kernel_shape { dim: 2 dim: 2 }", (1, 1, 3, 3), "give either kernel_shape or kernel_size, not"),
        (
            "kernel_shape { dim: 2 dim: 2 }",
            (1, 1, 3, 3, 3),
            "kernel_shape must be given once or once for each of the 3",
        ),
        ("kernel_size: 2 kernel_size: 2", (1, 1, 3, 3, 3), "kernel_size must be given once or once for each of the 3"),
        ("kernel_size: 2 kernel_depth: 2", (1, 1, 3, 3), "kernel_depth is for three spatial axes, but there are 2"),
        ("kernel_size: 2 temporal_stride: 2", (1, 1, 3, 3, 3), "temporal_stride must be given with kernel_depth"),
        ("kernel_size: 2 pad_shape { dim: -1 }", (1, 1, 3, 3), "pad must not be negative"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^Pooling layer 'layer': {words}"):
        run_layer(pool(text), np.zeros(shape))


def test_only_maxima_have_places():
    with pytest.raises(LayerError, match="only MAX pooling has a mask"):
        run_layer(pool("pool: AVE kernel_size: 2"), np.zeros((1, 1, 3, 3)), num_top=2)


def test_stochastic_pooling_has_no_backward_pass_in_test(engine):
    layer, bottom, top = build_layer(pool("pool: STOCHASTIC kernel_size: 2"), np.ones((1, 1, 4, 4)), phase=1)
    layer.forward(bottom, top)
    with pytest.raises(LayerError, match="stochastic pooling has no backward pass in TEST"):
        layer.backward(top, [True], bottom)
