"""Correlation and Correlation1D."""

import itertools

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer, top_of


def correlation(text, kind="Correlation"):
    return f"type: '{kind}' correlation_param {{ {text} }}"


def stereo(text):
    return correlation(text, "Correlation1D")


SHAPES = [(2, 3, 5, 6)] * 2
APART = [distinct, lambda rng, shape: distinct(rng, shape) + 0.025]  # no number of one bottom is one of the other


class TestProperties(LayerProperties):
    cases = [
        Case(correlation("pad: 2 kernel_size: 1 max_displacement: 2"), SHAPES),
        Case(correlation("pad: 3 kernel_size: 3 max_displacement: 3 stride_1: 2 stride_2: 2"), SHAPES),
        Case(correlation("kernel_size: 1 max_displacement: 0"), SHAPES),
        Case(correlation("kernel_size: 1 max_displacement: 1 stride_2: 3"), SHAPES),
        Case(correlation("pad: 2 kernel_size: 3 max_displacement: 1 correlation_type: SUBTRACT"), SHAPES, APART),
        Case(stereo("pad: 2 kernel_size: 3 max_displacement: 2"), SHAPES),
        Case(stereo("pad: 3 kernel_size: 1 max_displacement: 3 stride_2: 2 single_direction: -1"), SHAPES),
        Case(stereo("pad: 1 kernel_size: 1 max_displacement: 2 stride_1: 2 single_direction: 1"), SHAPES),
        Case(stereo("pad: 2 kernel_size: 1 max_displacement: 1 correlation_type: SUBTRACT"), SHAPES, APART),
    ]


def by_loops(a, b, pad, kernel, most, stride, steps_h, steps_w, subtract=False):
    """The top of a picture (C, H, W); pad and most: of rows, of columns."""
    channels, *sizes = a.shape
    radius = kernel // 2
    out = [-(-(n + 2 * p - 2 * (m + radius)) // stride) for n, p, m in zip(sizes, pad, most)]

    def value(x, c, h, w):
        return x[c, h, w] if 0 <= h < sizes[0] and 0 <= w < sizes[1] else 0.0

    y = np.zeros((len(steps_h) * len(steps_w), *out))
    for (d, (far_h, far_w)), i, j in itertools.product(
        enumerate(itertools.product(steps_h, steps_w)), range(out[0]), range(out[1])
    ):
        h, w = i * stride + most[0] + radius - pad[0], j * stride + most[1] + radius - pad[1]
        terms = []
        for c, p, q in itertools.product(range(channels), *[range(-radius, radius + 1)] * 2):
            u, v = value(a, c, h + p, w + q), value(b, c, h + p + far_h, w + q + far_w)
            terms.append(abs(u - v) if subtract else u * v)
        y[d, i, j] = np.mean(terms)
    return y


@pytest.mark.parametrize(
    ("text", "kind", "arguments"),
    [
        ("pad: 2 kernel_size: 1 max_displacement: 2", "", ((2, 2), 1, (2, 2), 1, range(-2, 3), range(-2, 3))),
        (
            "pad: 3 kernel_size: 3 max_displacement: 3 stride_1: 2 stride_2: 2", "",
            ((3, 3), 3, (3, 3), 2, range(-2, 3, 2), range(-2, 3, 2)),
        ),
        (
            "kernel_size: 1 max_displacement: 1 correlation_type: SUBTRACT", "",
            ((0, 0), 1, (1, 1), 1, range(-1, 2), range(-1, 2), True),
        ),
        ("pad: 2 kernel_size: 3 max_displacement: 2", "1D", ((0, 2), 3, (0, 2), 1, range(1), range(-2, 3))),
        (
            "pad: 2 kernel_size: 1 max_displacement: 2 single_direction: -1", "1D",
            ((0, 2), 1, (0, 2), 1, range(1), range(-3, 0)),
        ),
        (
            "pad: 2 kernel_size: 1 max_displacement: 2 single_direction: 1", "1D",
            ((0, 2), 1, (0, 2), 1, range(1), range(3)),
        ),
    ],
)  # fmt: skip
def test_against_loops(text, kind, arguments):
    a, b = np.random.default_rng(0).standard_normal((2, 2, 3, 5, 7))
    expected = np.stack([by_loops(*pair, *arguments) for pair in zip(a, b)])
    assert_close(top_of(correlation(text, "Correlation" + kind), a, b), expected, rtol=1e-9)


def test_the_displacement_of_a_shifted_picture_wins():
    a = np.random.default_rng(0).standard_normal((1, 16, 9, 9))
    y = top_of(correlation("pad: 2 kernel_size: 1 max_displacement: 2"), a, np.roll(a, (1, -2), (2, 3)))
    assert (y[0, :, 2:-2, 2:-2].argmax(0) == 3 * 5 + 0).all()  # one row down, two columns to the left


def test_of_equal_values_subtraction_has_the_gradient_of_the_difference(engine):
    x = np.ones((1, 1, 2, 2), np.float32)
    text = correlation("kernel_size: 1 max_displacement: 0 correlation_type: SUBTRACT")
    layer, bottom, top = run_layer(text, x, x, dtype=np.float32)
    top[0].diff[...] = 2
    layer.backward(top, [True, True], bottom)
    np.testing.assert_array_equal([blob.diff.flat[0] for blob in bottom], [2, -2])


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        ("max_displacement: 1", SHAPES, "correlation_param needs kernel_size"),
        ("kernel_size: 1", SHAPES, "correlation_param needs max_displacement"),
        ("kernel_size: 2 max_displacement: 1", SHAPES, "kernel_size must be odd, got 2"),
        ("kernel_size: 1 max_displacement: 1 stride_2: 0", SHAPES, "stride_1 and stride_2 must be at least 1"),
        ("kernel_size: 1 max_displacement: 4", SHAPES, "leave no place of bottoms of shape"),
        (
            "kernel_size: 1 max_displacement: 1", [(2, 3, 5, 6), (2, 3, 5, 5)],
            r"of one shape, got \(2, 3, 5, 6\) and \(2, 3, 5, 5\)",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_layer(text, shapes, words):
    with pytest.raises(LayerError, match=f"^Correlation layer 'layer': .*{words}"):
        top_of(correlation(text), *map(np.zeros, shapes))


def test_the_direction_is_a_sign():
    with pytest.raises(LayerError, match=r"single_direction must be -1, 0 or 1, got 2"):
        top_of(stereo("kernel_size: 1 max_displacement: 1 single_direction: 2"), *map(np.zeros, SHAPES))
