"""InnerProduct."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close, build_layer

FILLERS = "weight_filler { type: 'gaussian' std: 1 } bias_filler { type: 'constant' value: 0.3 }"


def ip(text):
    return f"type: 'InnerProduct' inner_product_param {{ {FILLERS} {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(ip("num_output: 4"), [(3, 2, 3)]),
        Case(ip("num_output: 4 transpose: true"), [(3, 5)]),
        Case(ip("num_output: 2 bias_term: false axis: 2"), [(2, 3, 4)]),
        Case(ip("num_output: 2 transpose: true bias_term: false axis: -1"), [(2, 3, 4)]),
        Case(ip("num_output: 3 axis: 0"), [(4,)]),
    ]


def run(text, x, weights):
    layer, bottom, top = build_layer(text, x)
    for blob, values in zip(layer.blobs, weights, strict=True):
        blob.data[...] = values
    layer.forward(bottom, top)
    return layer, bottom, top


@pytest.mark.parametrize("transpose", [False, True])
def test_values(transpose):
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 2)), rng.standard_normal((4, 6)), rng.standard_normal(4)
    _, _, (top,) = run(ip(f"num_output: 4 transpose: {str(transpose).lower()}"), x, [w.T if transpose else w, b])
    expected = [[b[o] + sum(w[o, k] * x[n].flat[k] for k in range(6)) for o in range(4)] for n in range(2)]
    assert_close(top.data, expected, rtol=1e-9)


def test_another_size_is_refused():
    layer, bottom, top = run(ip("num_output: 2"), np.zeros((2, 3, 4)), [1, 1])
    bottom[0].reshape(2, 3, 5)
    with pytest.raises(LayerError, match=r"^InnerProduct layer 'layer': .* made for 12 inputs, .* \(2, 3, 5\) has 15"):
        layer.forward(bottom, top)


def test_no_output_is_refused():
    with pytest.raises(LayerError, match="num_output must be at least 1"):
        run("type: 'InnerProduct'", np.zeros((2, 3)), [])
