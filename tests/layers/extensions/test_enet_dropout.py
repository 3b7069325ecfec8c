"""ENet's Python layer, where its module is missing."""

import numpy as np
import pytest

from minicaffe.errors import LayerError
from minicaffe.testing import build_layer

pytestmark = pytest.mark.layers("Python")


def python_layer(param_str, x):
    layer, bottom, top = build_layer(
        f"""type: "Python" python_param {{ module: "spatial_dropout" layer: "SpatialDropoutLayer"
        param_str: "{param_str}" }}""", x,
    )  # fmt: skip
    layer.forward(bottom, top)
    return layer, bottom, top


def test_maps_are_dropped_and_the_same_in_the_backward_pass():
    x = np.random.default_rng(0).standard_normal((30, 40, 2, 3)) + 5
    layer, bottom, top = python_layer("{'phase': 'TRAIN', 'p': '0.25'}", x)
    factors = top[0].data / x
    np.testing.assert_allclose(factors, np.broadcast_to(factors[..., :1, :1], x.shape), rtol=1e-9)
    kept = factors[..., 0, 0] > 0
    np.testing.assert_allclose(factors[..., 0, 0], kept / 0.75)
    assert abs(kept.mean() - 0.75) < 0.04
    top[0].diff[...] = x
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, top[0].data)
    layer.forward(bottom, top)
    assert ((top[0].data[..., 0, 0] > 0) != kept).any()


def test_the_phase_of_deploy_nets():
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    layer, bottom, top = python_layer("{'phase': 'TEST', 'p': '0.1'}", x)
    np.testing.assert_allclose(top[0].data, x / 0.9)
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, 1 / 0.9)


@pytest.mark.parametrize(("param_str", "words"), [
    ("", "param_str must be {'phase': 'TRAIN', 'p': '0.1'}, got ''"),
    ("{'p': '0.1'}", "param_str must be"),
    ("{'phase': 'TRAIN', 'p': '1'}", "'p' of param_str must be above 0 and below 1, got 1"),
])  # fmt: skip
def test_what_is_refused(param_str, words):
    with pytest.raises(LayerError, match=words):
        python_layer(param_str, np.zeros((1, 1, 1, 1)))
