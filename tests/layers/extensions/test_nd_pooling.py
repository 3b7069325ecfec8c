"""NdPooling: a Pooling whose means are sums divided by the elements of a window."""

import numpy as np
import pytest

from helpers import references
from minicaffe.testing import Case, LayerProperties, assert_close, distinct, run_layer, top_of

SHAPES = (
    "kernel_shape { dim: 1 dim: 3 dim: 2 } stride_shape { dim: 1 dim: 2 dim: 2 } pad_shape { dim: 0 dim: 1 dim: 1 }"
)


def pool(text):
    return f"type: 'NdPooling' pooling_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(pool(SHAPES), [(2, 2, 3, 6, 5)], distinct),
        Case(pool(f"pool: AVE {SHAPES}"), [(2, 2, 3, 6, 5)]),
        Case(pool("pool: AVE kernel_shape { dim: 3 dim: 3 } stride_shape { dim: 2 dim: 2 }"), [(2, 2, 6, 5)]),
        Case(pool("kernel_shape { dim: 2 dim: 2 } stride_shape { dim: 2 dim: 2 }"), [(2, 2, 4, 8)], distinct),
    ]


@pytest.mark.parametrize("shape", [(2, 2, 3, 6, 5), (1, 2, 2, 7, 8)])
def test_values(shape, engine):
    x = np.random.default_rng(0).standard_normal(shape)
    window = (1, 3, 2), (1, 2, 2), (0, 1, 1)
    maxima, mask = references.pooling(x, *window)
    layer, bottom, top = run_layer(pool(SHAPES), x, num_top=2)
    np.testing.assert_array_equal(top[0].data, maxima)
    np.testing.assert_array_equal(top[1].data, mask)
    sums = np.zeros(maxima.shape)
    for n, c, i, j, k in np.ndindex(sums.shape):
        rows, columns = slice(max(2 * j - 1, 0), 2 * j + 2), slice(max(2 * k - 1, 0), 2 * k + 1)
        sums[n, c, i, j, k] = x[n, c, i, rows, columns].sum()
    assert_close(top_of(pool(f"pool: AVE {SHAPES}"), x), sums / 6, rtol=1e-6, atol=1e-12)
