"""Unpooling, by plain loops, and with the places that a Pooling finds."""

import numpy as np
import pytest

from helpers import references
from minicaffe.errors import LayerError
from minicaffe.proto import caffe_pb2, parse_text
from minicaffe.proto.upgrade_v1 import upgrade_v1_layer
from minicaffe.testing import Case, LayerProperties, assert_close, normal, top_of


def unpooling(text="kernel_size: 2 stride: 2 unpool_size: 6"):
    return f"type: 'Unpooling' unpooling_param {{ {text} }}"


def places(rng, shape):
    """Masks of 2 x 2 windows over pictures of 6 columns: one position in each."""
    rows, columns = np.indices(shape)[2:] * 2 + rng.integers(0, 2, (2, *shape))
    return (rows * 6 + columns).astype(float)


WINDOWS = [
    "kernel_size: 2 stride: 2 unpool_size: 6",
    "kernel_size: 3 stride: 2 unpool_h: 7 unpool_w: 6",
    "kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 unpool_h: 4 unpool_w: 5",
    "kernel_size: 3 stride: 3 unpool_h: 5 unpool_w: 9",
]


class TestProperties(LayerProperties):
    cases = [
        Case(unpooling(), [(2, 3, 3, 3)] * 2, [normal, places], gradient=[0]),
        Case(unpooling(), [(2, 3, 3, 3)]),
        *(Case(unpooling(f"unpool: AVE {text}"), [(2, 2, 3, 3)]) for text in WINDOWS),
        *(Case(unpooling(f"unpool: TILE {text}"), [(2, 2, 3, 3)]) for text in WINDOWS),
    ]


def spread(x, size, kernel, stride, average):
    y = np.zeros((*x.shape[:2], *size))
    for n, c, i, j in np.ndindex(x.shape):
        rows = range(i * stride[0], min(i * stride[0] + kernel[0], size[0]))
        columns = range(j * stride[1], min(j * stride[1] + kernel[1], size[1]))
        for h in rows:
            for w in columns:
                y[n, c, h, w] += x[n, c, i, j] / (len(rows) * len(columns) if average else 1)
    return y


@pytest.mark.parametrize("method", ["AVE", "TILE"])
@pytest.mark.parametrize(
    ("text", "size", "kernel", "stride"),
    [
        *zip(
            WINDOWS,
            [(6, 6), (7, 6), (4, 5), (5, 9)],
            [(2, 2), (3, 3), (2, 3), (3, 3)],
            [(2, 2), (2, 2), (1, 2), (3, 3)],
        )
    ],
)
def test_values_spread_over_windows(engine, method, text, size, kernel, stride):
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 3))
    y = top_of(unpooling(f"unpool: {method} {text}"), x, dtype=np.float32)
    assert_close(y, spread(x, size, kernel, stride, method == "AVE"))


def test_values_go_back_to_their_places(engine):
    x = np.random.default_rng(0).permutation(2 * 3 * 6 * 6).reshape(2, 3, 6, 6) + 1.0
    values, mask = references.pooling(x, kernel=2, stride=2)
    np.testing.assert_array_equal(
        top_of(unpooling(), values, mask, dtype=np.float32), references.scatter(values, mask, x.shape)
    )


def test_without_a_mask_values_go_to_the_first_place(engine):
    y = top_of(unpooling("kernel_size: 2 stride: 2 unpool_h: 3 unpool_w: 5"), np.arange(1.0, 5).reshape(1, 1, 2, 2))
    np.testing.assert_array_equal(y[0, 0], [[1, 0, 2, 0, 0], [0] * 5, [3, 0, 4, 0, 0]])


def test_v1_layers_are_upgraded():
    text = "name: 'un' type: UNPOOLING unpooling_param { kernel_size: 2 stride: 2 unpool_size: 14 }"
    new = caffe_pb2.LayerParameter()
    upgrade_v1_layer(parse_text(text, caffe_pb2.V1LayerParameter()), new)
    assert new.type == "Unpooling" and new.unpooling_param.unpool_size == 14


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernel_size: 2", "give either unpool_size or unpool_h and unpool_w"),
        ("kernel_size: 2 unpool_size: 4 unpool_h: 4", "give either unpool_size or unpool_h and unpool_w"),
        ("kernel_size: 2 unpool_h: 4", "the size of the top must be at least 1 x 1, got 4 x 0"),
        ("kernel_size: 2 unpool_size: 4 pad: 1", r"pad must be 0, got \(1, 1\)"),
        ("unpool_size: 4", ".*kernel_size"),
    ],
)
def test_errors_name_the_layer(text, words):
    with pytest.raises(LayerError, match=f"^Unpooling layer 'layer': {words}"):
        top_of(unpooling(text), np.zeros((1, 1, 2, 2)))


@pytest.mark.parametrize("shape", [(1, 1, 2, 3), (1, 1, 2)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(LayerError, match=r"^Unpooling layer 'layer': bottoms must be \(N, C, h, w\)"):
        top_of(unpooling(), np.zeros((1, 1, 2, 2)), np.zeros(shape))
