"""Pooling: sizes, values by plain loops, masks, and windows that extend beyond the border."""

import math

import numpy as np
import pytest

from minicaffe import gradient_check
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, positive


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
        Case(pool("pool: STOCHASTIC kernel_size: 3 stride: 2"), [(2, 3, 6, 5)], positive, gradient=()),
        Case(pool("pool: STOCHASTIC kernel_size: 2 stride: 2"), [(2, 3, 5, 4)], positive, gradient=(), phase=1),
    ]


def run(text, x, phase=0, num_top=1):
    layer = gradient_check.layer_from_text(text, phase, np.float64)
    bottom, top = gradient_check.blobs_of([x], np.float64), gradient_check.blobs_of([0] * num_top, np.float64)
    layer.initialize(bottom, top)
    layer.forward(bottom, top)
    return layer, bottom, top


def slow(x, kernel, stride, pad, average):
    """The original's loops: sizes rounded up, windows clipped; 0 and -1 for a window outside."""
    height, width = x.shape[2:]
    out = [math.ceil((n + 2 * pad - kernel) / stride) + 1 for n in (height, width)]
    if pad:
        out = [o - ((o - 1) * stride >= n + pad) for o, n in zip(out, (height, width), strict=True)]
    y, mask = np.zeros((*x.shape[:2], *out)), np.full((*x.shape[:2], *out), -1)
    for n, c, i, j in np.ndindex(y.shape):
        top, left = i * stride - pad, j * stride - pad
        size = (min(top + kernel, height + pad) - top) * (min(left + kernel, width + pad) - left)
        places = [
            (a, b)
            for a in range(max(top, 0), min(top + kernel, height))
            for b in range(max(left, 0), min(left + kernel, width))
        ]
        if places and average:
            y[n, c, i, j] = sum(x[n, c, a, b] for a, b in places) / size
        elif places:
            a, b = max(places, key=lambda place: x[n, c][place])
            y[n, c, i, j], mask[n, c, i, j] = x[n, c, a, b], a * width + b
    return y, mask


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 2, 1), (2, 3, 0), (1, 2, 0), (4, 1, 3), (3, 3, 2)]
)
@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (1, 2, 5, 8)])
def test_values_and_masks(kernel, stride, pad, shape):
    x = np.random.default_rng(0).integers(0, 4, shape).astype(float)  # many ties: the first maximum counts
    text = f"kernel_size: {kernel} stride: {stride} pad: {pad}"
    y, mask = slow(x, kernel, stride, pad, average=False)
    layer, bottom, top = run(pool(text), x, num_top=2)
    np.testing.assert_array_equal(top[0].data, y)
    np.testing.assert_array_equal(top[1].data, mask)
    top[0].diff[...] = np.random.default_rng(1).standard_normal(y.shape)
    layer.backward(top, [True], bottom)
    expected = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(y.shape):
        if mask[n, c, i, j] >= 0:
            expected[n, c].flat[mask[n, c, i, j]] += top[0].diff[n, c, i, j]
    assert_close(bottom[0].diff, expected, rtol=1e-9)
    assert_close(run(pool(f"pool: AVE {text}"), x)[2][0].data, slow(x, kernel, stride, pad, average=True)[0], rtol=1e-6)


@pytest.mark.parametrize("text", ["ceil_mode: false", "round_mode: FLOOR"])
def test_sizes_rounded_down(text):
    x = np.zeros((1, 1, 6, 6))
    assert run(pool(f"kernel_size: 3 stride: 2 {text}"), x)[2][0].shape == (1, 1, 2, 2)
    assert run(pool("kernel_size: 3 stride: 2"), x)[2][0].shape == (1, 1, 3, 3)


def test_stochastic_draws_in_proportion():
    x = np.zeros((4000, 1, 2, 2))
    x[:] = [[1, 2], [0, 5]]
    layer, bottom, top = run(pool("pool: STOCHASTIC kernel_size: 2"), x)
    shares = [(top[0].data == value).mean() for value in (1, 2, 0, 5)]
    assert_close(shares, [1 / 8, 2 / 8, 0, 5 / 8], atol=0.05)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal((bottom[0].diff * x).sum((1, 2, 3)), top[0].data.ravel())
    assert_close(run(pool("pool: STOCHASTIC kernel_size: 2"), x, phase=1)[2][0].data, 30 / 8)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("kernel_size: 2", (64, 500), r"bottom 0 must be \(N, C, H, W\), got \(64, 500\)"),
        ("kernel_size: 2 pad: 2", (1, 1, 4, 4), "pad must be smaller than the kernel"),
        ("kernel_size: 5", (1, 1, 3, 3), r"kernel \(5, 5\) does not fit"),
        ("pool: STOCHASTIC kernel_size: 2 pad: 1", (1, 1, 3, 3), "stochastic pooling cannot pad"),
        ("", (1, 1, 3, 3), "kernel_size, or kernel_h and kernel_w, must be given"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^Pooling layer 'layer': {words}"):
        run(pool(text), np.zeros(shape))


def test_only_maxima_have_places():
    with pytest.raises(LayerError, match="only MAX pooling has a mask"):
        run(pool("pool: AVE kernel_size: 2"), np.zeros((1, 1, 3, 3)), num_top=2)
