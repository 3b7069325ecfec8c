"""Windows: the forms of their fields in a prototxt, and the places that they cover."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.layers.shared.window import Window, conv_window, overlaps, pool_window
from minicaffe.proto import caffe_pb2, parse_text


def convolution(text):
    return parse_text(text, caffe_pb2.ConvolutionParameter())


@pytest.mark.parametrize(
    ("text", "axes", "expected"),
    [
        ("kernel_size: 3", 2, Window((3, 3), (1, 1), (0, 0), (1, 1))),
        ("kernel_size: 3 kernel_size: 5 pad: 1 stride: 2", 2, Window((3, 5), (2, 2), (1, 1), (1, 1))),
        ("kernel_h: 3 kernel_w: 1 pad_h: 1 stride_h: 2 stride_w: 3", 2, Window((3, 1), (2, 3), (1, 0), (1, 1))),
        ("kernel_size: 3 dilation: 1 dilation: 2 dilation: 3", 3, Window((3,) * 3, (1,) * 3, (0,) * 3, (1, 2, 3))),
        ("kernel_size: 4", 1, Window((4,), (1,), (0,), (1,))),
    ],
)
def test_spellings(text, axes, expected):
    assert conv_window(convolution(text), axes) == expected


@pytest.mark.parametrize(
    ("text", "axes", "words"),
    [
        ("", 2, "kernel_size, or kernel_h and kernel_w, must be given"),
        ("kernel_h: 3", 2, "together, got only kernel_h"),
        ("kernel_size: 3 kernel_h: 3 kernel_w: 3", 2, "not both"),
        ("kernel_h: 3 kernel_w: 3", 3, "two spatial axes, but there are 3"),
        ("kernel_size: 3 pad: 1 pad: 1", 3, "pad must be given once or once for each of the 3 spatial axes"),
        ("kernel_size: 3 stride: 0", 2, "stride must be at least 1"),
        ("kernel_size: 0", 2, "kernel must be at least 1"),
    ],
)
def test_refused(text, axes, words):
    with pytest.raises(LayerError, match=words):
        conv_window(convolution(text), axes)


def test_global_pooling_takes_the_whole_picture():
    param = parse_text("global_pooling: true", caffe_pb2.PoolingParameter())
    assert pool_window(param, (5, 7)).kernel == (5, 7)
    with pytest.raises(LayerError, match="kernel_h cannot be given"):
        pool_window(parse_text("global_pooling: true kernel_h: 3", caffe_pb2.PoolingParameter()), (5, 7))
    with pytest.raises(LayerError, match="needs stride 1 and pad 0"):
        pool_window(parse_text("global_pooling: true stride: 3", caffe_pb2.PoolingParameter()), (5, 7))


def test_added_axes_have_one_place():
    window = Window((3,), (2,), (1,), (2,))
    assert window.with_axes(3) == Window((1, 1, 3), (1, 1, 2), (0, 0, 1), (1, 1, 2))
    assert window.with_axes(1) == window
    assert Window((), (), (), ()).with_axes(1).output((5,)) == (5,)


def test_overlaps_are_the_places_inside():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size, out, kernel, stride, pad, dilation = (int(rng.integers(1, high)) for high in (9, 7, 5, 4, 4, 4))
        found = {
            (j, t, s)
            for j, windows, sources in overlaps(size, out, kernel, stride, pad, dilation)
            for t, s in zip(range(out)[windows], range(size)[sources], strict=True)
        }
        expected = {
            (j, t, t * stride + j * dilation - pad)
            for j in range(kernel)
            for t in range(out)
            if 0 <= t * stride + j * dilation - pad < size
        }
        assert found == expected


def test_a_window_that_does_not_fit():
    with pytest.raises(LayerError, match=r"window of \(5, 5\) places .* spatial size \(4, 9\)"):
        Window((3, 3), (1, 1), (0, 0), (2, 2)).output((4, 9))
