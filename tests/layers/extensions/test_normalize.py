"""Normalize."""

import numpy as np
import pytest

from minicaffe import gradient_check
from minicaffe.errors import LayerError
from minicaffe.testing import Case, LayerProperties, assert_close


def normalize(text):
    return f"type: 'Normalize' norm_param {{ {text} }}"


class TestProperties(LayerProperties):
    cases = [
        Case(normalize("scale_filler { value: 2 }"), [(2, 3, 2, 3)]),
        Case(normalize("across_spatial: false"), [(2, 3, 2, 3)]),
        Case(normalize("across_spatial: false channel_shared: false scale_filler { value: 20 }"), [(2, 3, 2, 3)]),
        Case(normalize("channel_shared: false"), [(2, 3, 4)]),
        Case(normalize("across_spatial: false eps: 0.1"), [(3, 5)]),
    ]


def run(text, x):
    layer = gradient_check.layer_from_text(text, 0, np.float64)
    bottom, top = gradient_check.blobs_of([x], np.float64), gradient_check.blobs_of([0], np.float64)
    layer.set_up(bottom, top)
    layer.forward(bottom, top)
    return layer, top[0].data


@pytest.mark.parametrize(("across", "axes"), [("true", (1, 2, 3)), ("false", (1,))])
def test_lengths(across, axes):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    layer, y = run(normalize(f"across_spatial: {across} scale_filler {{ type: 'constant' value: 20 }}"), x)
    assert layer.blobs[0].shape == ()
    assert_close(np.sqrt((y**2).sum(axes)), np.full(y.sum(axes).shape, 20.0), rtol=1e-6)
    assert_close(
        y / x * (x / y)[:, :1, :1, :1], np.ones_like(y) if across == "true" else y / x * (x / y)[:, :1, :1, :1]
    )


def test_the_scale_starts_at_one():
    layer, _ = run(normalize("channel_shared: false"), np.ones((1, 3, 2, 2)))
    np.testing.assert_array_equal(layer.blobs[0].data, [1, 1, 1])


def test_a_vector_is_refused():
    with pytest.raises(LayerError, match=r"^Normalize layer 'layer': bottom 0 must be \(N, C, ...\), got \(3,\)"):
        run(normalize(""), np.zeros(3))
