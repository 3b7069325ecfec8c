"""ReverseTime, by a plain loop."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, build_layer, normal, run_layer

LENGTHS = [3.0, 4.0, 0.0, 1.0]


def reverse_time(copies=True):
    return f"type: 'ReverseTime' reverse_time_param {{ copy_remaining: {str(copies).lower()} }}"


def lengths(rng, shape):
    return np.array(LENGTHS[: shape[0]])


class TestProperties(LayerProperties):
    cases = [Case(reverse_time(copies), [(4, 4, 2), (4,)], [normal, lengths], gradient=[0]) for copies in (True, False)]


@pytest.mark.parametrize("copies", [True, False])
def test_values(engine, copies):
    x = np.random.default_rng(0).standard_normal((4, 4, 2, 3)).astype(np.float32)
    expected = np.zeros_like(x)
    for n, length in enumerate(LENGTHS):
        for t in range(4):
            if t < length:
                expected[t, n] = x[int(length) - 1 - t, n]
            elif copies:
                expected[t, n] = x[t, n]
    layer, bottom, top = run_layer(reverse_time(copies), x, LENGTHS, dtype=np.float32)
    np.testing.assert_array_equal(top[0].data, expected)
    top[0].diff[...] = x
    layer.backward(top, [True, False], bottom)
    np.testing.assert_array_equal(bottom[0].diff, expected)


@pytest.mark.parametrize("wrong", [5, -1, np.nan])
def test_lengths_out_of_range(engine, wrong):
    arguments = (reverse_time(), np.ones((4, 2, 1)), [2, wrong])
    if engine.gpu:
        _, _, top = run_layer(*arguments, dtype=np.float32)
        assert np.isnan(top[0].data[:, 1]).all() and not np.isnan(top[0].data[:, 0]).any()
    else:
        with pytest.raises(LayerError, match=f"lengths must be 0 to 4, the steps of bottom 0, got {wrong}"):
            run_layer(*arguments, dtype=np.float32)


def test_shapes_are_checked():
    with pytest.raises(LayerError, match=r"bottoms must be \(T, N, ...\) and a length for each of N, got \(4, 2, 1\)"):
        build_layer(reverse_time(), np.ones((4, 2, 1)), [1, 2, 3])
