"""SPP."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer, distinct


def spp(text):
    return f"type: 'SPP' spp_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(spp("pyramid_height: 1"), [(2, 3, 4, 5)], distinct),
        Case(spp("pyramid_height: 3"), [(2, 2, 8, 9)], distinct),
        Case(spp("pyramid_height: 2 pool: AVE"), [(1, 3, 5, 7)]),
    ]


def run(text, *xs):
    layer, bottom, top = build_layer(text, xs[0])
    results = []
    for x in xs:
        bottom[0].reshape(x.shape)
        bottom[0].data[...] = x
        layer.forward(bottom, top)
        results.append(top[0].data.copy())
    return results


def test_bins_and_their_order_for_pictures_of_any_size():
    large, small = (
        np.random.default_rng(0).standard_normal((2, 2, 8, 6)),
        np.random.default_rng(1).standard_normal((2, 2, 4, 4)),
    )
    for x, y in zip((large, small), run(spp("pyramid_height: 2"), large, small), strict=True):
        h, w = x.shape[2] // 2, x.shape[3] // 2
        assert y.shape == (2, 10)
        assert_close(y[:, :2], x.max((2, 3)), rtol=1e-9)
        quarters = [x[:, :, i : i + h, j : j + w].max((2, 3)) for i in (0, h) for j in (0, w)]
        assert_close(y[:, 2:], np.stack(quarters, 2).reshape(2, 8), rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("", (1, 1, 4, 4), "pyramid_height must be at least 1"),
        (
            "pyramid_height: 2147483647",
            (1, 1, 7, 9),
            r"pictures of \(7, 9\) are too small for pyramid_height 2147483647",
        ),
        ("pyramid_height: 4", (1, 1, 5, 5), r"pictures of \(5, 5\) are too small for pyramid_height 4"),
        ("pyramid_height: 2", (1, 4), r"bottom 0 must be \(N, C, H, W\), got \(1, 4\)"),
    ],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^SPP layer 'layer': {words}"):
        run(spp(text), np.zeros(shape))
