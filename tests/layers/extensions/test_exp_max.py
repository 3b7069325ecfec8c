"""ExpMax."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, run_layer, top_of

SCALED = "type: 'ExpMax' expmax_param { base: 2 scale: 3 shift: 0.5 }"


class TestProperties(LayerProperties):
    """The gradient is not the derivative: see below."""

    cases = [
        Case("type: 'ExpMax'", [(2, 3, 4, 5)], gradient=()),
        Case(SCALED, [(2, 3)], gradient=()),
    ]


@pytest.mark.parametrize(("text", "base", "scale", "shift"), [("type: 'ExpMax'", np.e, 1, 0), (SCALED, 2, 3, 0.5)])
def test_against_loops(text, base, scale, shift, engine):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    layer, bottom, top = run_layer(text, x, dtype=np.float32)
    top[0].diff[...] = dy = np.random.default_rng(1).standard_normal(x.shape)
    layer.backward(top, [True], bottom)
    y, dx = np.empty_like(x), np.empty_like(x)
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c, h, w] = base ** (shift + scale * (x[n, c, h, w] - max(x[n, :, h, w])))
        dx[n, c, h, w] = y[n, c, h, w] * dy[n, c, h, w] * scale * np.log(base)
    assert_close(top[0].data, y)
    assert_close(bottom[0].diff, dx)


def test_divided_by_the_sum_its_gradient_is_that_of_a_softmax(engine):
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    dy = np.random.default_rng(1).standard_normal(x.shape)
    soft, soft_bottom, soft_top = run_layer("type: 'Softmax'", x, dtype=np.float32)
    soft_top[0].diff[...] = dy
    soft.backward(soft_top, [True], soft_bottom)
    layer, bottom, top = run_layer("type: 'ExpMax'", x, dtype=np.float32)
    y = top[0].data.copy()
    total = y.sum(1, keepdims=True)
    top[0].diff[...] = dy / total - (dy * y).sum(1, keepdims=True) / total**2  # of y / total
    layer.backward(top, [True], bottom)
    assert_close(bottom[0].diff, soft_bottom[0].diff, rtol=1e-3)


def test_large_scores(engine):
    y = top_of("type: 'ExpMax'", [[1e4, 1e4 - 1, 0]], dtype=np.float32)
    assert_close(y, [[1, np.exp(-1), 0]])


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [("", (3,), r"bottom 0 must be \(N, C, ...\), got \(3,\)"), ("base: 0", (2, 3), "base must be above 0")],
)
def test_errors_name_the_layer(text, shape, words):
    with pytest.raises(LayerError, match=f"^ExpMax layer 'layer': {words}"):
        top_of(f"type: 'ExpMax' expmax_param {{ {text} }}", np.zeros(shape))
