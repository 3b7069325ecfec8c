"""LRN, over both regions."""

import numpy as np
import pytest

from minicaffe import gradient_check
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close


def lrn(text):
    return f"type: 'LRN' lrn_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(lrn("local_size: 3 alpha: 2 beta: 0.75 k: 2"), [(2, 5, 2, 3)]),
        Case(lrn("local_size: 5 alpha: 0.5 beta: 1.2"), [(2, 3, 2, 2)]),
        Case(lrn(""), [(1, 7, 2, 2)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2"), [(2, 3, 4, 5)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 5 alpha: 0.5 beta: 0.5"), [(1, 2, 3, 6)]),
        Case(lrn("norm_region: WITHIN_CHANNEL local_size: 1"), [(1, 2, 3, 3)]),
    ]


def run(text, x):
    layer = gradient_check.layer_from_text(text, 0, np.float64)
    bottom, top = gradient_check.blobs_of([x], np.float64), gradient_check.blobs_of([0], np.float64)
    layer.initialize(bottom, top)
    layer.forward(bottom, top)
    return top[0].data


def test_values():
    x = np.random.default_rng(0).standard_normal((2, 6, 3, 4))
    across, within = np.empty_like(x), np.empty_like(x)
    for n, c, h, w in np.ndindex(x.shape):
        channels = x[n, max(0, c - 2) : c + 3, h, w]
        places = x[n, c, max(0, h - 1) : h + 2, max(0, w - 1) : w + 2]
        across[n, c, h, w] = x[n, c, h, w] / (2 + 0.5 / 5 * (channels**2).sum()) ** 0.6
        within[n, c, h, w] = x[n, c, h, w] / (1 + 0.5 / 9 * (places**2).sum()) ** 0.6  # k is not used
    assert_close(run(lrn("local_size: 5 alpha: 0.5 beta: 0.6 k: 2"), x), across, rtol=1e-6)
    text = "norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 beta: 0.6 k: 2"
    assert_close(run(lrn(text), x), within, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("local_size: 4", (1, 2, 3, 3), "local_size must be odd, got 4"),
        ("", (2, 3), r"bottom 0 must be \(N, C, H, W\), got \(2, 3\)"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^LRN layer 'layer': {words}"):
        run(lrn(text), np.zeros(shape))
